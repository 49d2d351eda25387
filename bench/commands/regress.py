"""`pressbench regress`: what changed in the newest night of a store; `pressbench triage`: what was decided about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.commands.report import open_existing
from bench.config.suite import check_smallest_effect
from bench.errors import InvalidInput, Regression, Unavailable, unknown
from bench.paths import written
from bench.regress.alarms import Kind
from bench.regress.judge import Search
from bench.regress.night import Known, Night, judge_night, make_triage
from bench.regress.series import pick_newest
from bench.regress.show import plain, to_annotations, to_json, to_junit, to_markdown, to_terminal
from bench.stats.changes import answer
from bench.store import Store, Triage

FAIL_ON = {
    "regression": Kind.REGRESSION,
    "missing": Kind.MISSING,
    "environment": Kind.ENVIRONMENT,
    "inconclusive": Kind.INCONCLUSIVE,
    "improvement": Kind.IMPROVEMENT,
}
"""Word of `--fail-on` -> the alarms that it is about; "nothing" is the other word."""


def find_regressions(
    *,
    results: Path,
    url: str | None,
    target: str | None,
    fail_on: Sequence[str],
    false_alarms: float,
    smallest_effect: float,
    nights: int,
    junit: Path | None,
    markdown: Path | None,
    github: bool,
    cluster: str = "",
    note: Callable[[str], None] = print,
) -> tuple[Any, str, int]:
    """The answer, the text and the exit code: 1 where an open alarm of a kind in `fail_on` stands, else 3 where a file could not
    be written.

    `cluster`: where series are searched, "" for this process; `note` says what it does not do.

    Raises `InvalidInput` for a store or an option that cannot be used.
    """
    failing = read_fail_on(fail_on)
    with open_existing(results, url) as store, _open_search(cluster, note) as search:
        night = judge_store(store, target, false_alarms, smallest_effect, nights, search)
    extra, code, lost = write_answers(night, failing, junit=junit, markdown=markdown, github=github)
    answer = {**to_json(night), "failed": night.count(failing)}
    if lost:
        answer["not_written"] = [str(error) for error in lost]
    return answer, to_terminal(night) + extra, code or (lost[0].exit_code if lost else 0)


@contextmanager
def _open_search(cluster: str, note: Callable[[str], None]) -> Iterator[Search]:
    """What finds the changes of series: this process, or a cluster, whose code is imported only then."""
    if not cluster:
        yield answer
        return
    from bench.line.cluster.series import open_searcher

    with open_searcher(cluster, note) as search:
        yield search


def write_answers(
    night: Night, failing: Sequence[Kind], *, junit: Path | None, markdown: Path | None, github: bool
) -> tuple[str, int, list[Unavailable]]:
    """Writes the files that were asked for; what to print below the alarms, 1 for a failing one else 0, and why files are lacking."""
    lost = []
    for path, option, text in (
        (junit, "--junit", to_junit(night, failing)),
        (markdown, "--markdown", to_markdown(night)),
    ):
        if path is not None:
            try:
                with written(path, option):
                    path.write_text(text, encoding="utf-8")
            except Unavailable as error:  # the alarms are said all the same
                lost.append(error)
    extra = "".join(f"\nnot written: {plain(str(error))}" for error in lost)
    extra += f"\n{to_annotations(night)}" if github else ""
    return extra, Regression.exit_code if night.count(failing) else 0, lost


def judge_store(
    store: Store,
    target: str | None,
    false_alarms: float,
    smallest_effect: float,
    nights: int,
    search: Search = answer,
) -> Night:
    """The newest night of a store. Raises `InvalidInput` for an option that cannot be used, or a store without runs."""
    check_smallest_effect(smallest_effect, "--smallest-effect")
    check_smallest_effect(false_alarms, "--false-alarms")
    targets = {run.target for run in pick_newest(store.runs(), 1)}
    if not targets:
        raise InvalidInput(f"{store.where}: no run is stored yet; `pressbench run --target cpu` makes one")
    if target is not None and target not in targets:
        raise unknown("target of this store", target, targets)
    return judge_night(
        store, rate=false_alarms, smallest_effect=smallest_effect, recent=nights, target=target, search=search
    )


def read_fail_on(words: Sequence[str]) -> list[Kind]:
    """The kinds that fail. Raises `InvalidInput` for "nothing" beside another word."""
    if "nothing" in words and len(words) > 1:
        raise InvalidInput("--fail-on nothing stands by itself: leave the others out, or leave it out")
    return [FAIL_ON[word] for word in words if word != "nothing"]


def triage_alarm(
    *,
    results: Path,
    url: str | None,
    target: str | None,
    false_alarms: float,
    smallest_effect: float,
    nights: int,
    alarm: str | None,
    state: str | None,
    note: str,
) -> tuple[Any, str]:
    """Keeps a decision about an alarm of the newest night; without an alarm, lists what was decided.

    The options are those by which `regress` raised the alarm.

    Raises `InvalidInput` for an alarm that does not exist, or `acknowledged` without a note.
    """
    with open_existing(results, url) as store:
        if alarm is None:
            return list_decided(store.triage())
        if state is None:
            raise InvalidInput(f"triage {alarm}: name its state: new, acknowledged, expected or fixed")
        if state == "acknowledged" and not note.strip():
            raise InvalidInput(f"triage {alarm} acknowledged: say why with --note")
        night = judge_store(store, target, false_alarms, smallest_effect, nights)
        triage = make_triage(find_alarm(night, alarm), state, note, datetime.now(UTC).isoformat())
        store.decide(triage)
    return {"alarm": alarm, "state": state, "note": note}, plain(f"{alarm}  {triage.series}  [{state}]")


def find_alarm(night: Night, alarm: str) -> Known:
    """The alarm of that id. Raises `InvalidInput` that lists those there are."""
    named = {one.id: one for one in night.known}
    if alarm not in named:
        raise unknown("alarm of the newest night", alarm, named)
    return named[alarm]


def list_decided(decided: Sequence[Triage]) -> tuple[Any, str]:
    """Every decision."""
    lines = [plain(f"{one.alarm}  {one.state:<12}  {one.series}  {one.note}".rstrip()) for one in decided]
    answer = [{"alarm": one.alarm, "state": one.state, "series": one.series, "note": one.note} for one in decided]
    return answer, "\n".join(lines) or "nothing was decided yet; `pressbench regress` lists the alarms"
