"""One night: run the suite on every target, measure suspects again, judge, report, and keep what the next needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.commands.nights.again import keep_files, measure_suspects
from bench.commands.progress import Watch
from bench.commands.regress import FAIL_ON, judge_store, write_answers
from bench.commands.report import open_existing, trace_store, write_report
from bench.commands.run import run_suite
from bench.config.suite import check_smallest_effect
from bench.config.target import load_target
from bench.errors import Damaged, DiskFull, InvalidInput, PressbenchError, Unavailable
from bench.line.plan import Request, find_settings
from bench.line.run import describe_move, is_of_this_code, now
from bench.line.versus.kept import prune_kept
from bench.marks import locked
from bench.paths import written
from bench.records import SEARCH, Run
from bench.regress.alarms import Kind
from bench.regress.figures import read_figures
from bench.regress.night import Night, judge_night
from bench.regress.series import name_nights
from bench.regress.show import plain, to_json, to_page, to_terminal
from bench.regress.thin import thin
from bench.store import Store, find_absent_file

LOCK = ".nightly.lock"
GOOD_NIGHTS = 30
"""Runs of a target and suite whose files are looked at for the last good one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked of a night. `again_s`: seconds for measuring suspects again, for each target; 0: not at all.

    `keep_samples`: runs of a target whose raw samples stay whole.
    """

    targets: tuple[str, ...]
    suite: str
    smallest_effect: float = 0.01
    false_alarms: float = 0.01
    nights: int = 14
    again_s: float = 900.0
    keep_samples: int = 60
    fail_on: tuple[str, ...] = ("regression", "missing")
    junit: Path | None = None
    markdown: Path | None = None
    github: bool = False


@dataclass(slots=True, kw_only=True)
class Told:
    """What happened so far. `failed`: target -> why it has no run tonight. `unwritten`: why there is no report."""

    notes: list[str] = field(default_factory=list)
    failed: dict[str, PressbenchError] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    unwritten: Unavailable | None = None


def run_night(
    wishes: Wishes,
    make_request: Callable[[str], Request],
    *,
    results: Path,
    url: str | None,
    cache: Path,
    watch: Watch,
) -> tuple[Any, str, int]:
    """The answer, the text and the exit code: 1 where an alarm fails, else that of the first target without a run, else 3
    without a report or a file that was asked for.

    Raises `InvalidInput` for options that cannot be used, `Unavailable` while another night uses these results.
    """
    check_wishes(wishes)
    told = Told()
    with one_night(results):
        for target in wishes.targets:
            run_target(target, wishes, make_request(target), told, results=results, url=url, cache=cache, watch=watch)
        if url is None and not (results / "pressbench.db").exists():
            raise next(iter(told.failed.values()))
        with open_existing(results, url) as store:
            night = judge_store(store, None, wishes.false_alarms, wishes.smallest_effect, wishes.nights)
            tonight = [run for run in store.runs() if run.run_id in told.runs]
            if tonight:
                targets = {run.target for run in tonight}
                lines = trace_store(store, [run for run in store.runs() if run.target in targets], to_page(night))
                try:
                    write_report(store, tonight, results, "--results", lines)
                except Unavailable as error:  # the night is not lost with its page
                    told.unwritten = error
            try:
                told.notes += tidy(store, wishes, results)
            except Unavailable as error:  # nor with what it no longer needs
                told.notes.append(f"old nights were not tidied up: {error}")
    return conclude(night, wishes, told)


def check_wishes(wishes: Wishes) -> None:
    """Raises `InvalidInput` for an option that cannot be used: before hours are spent on measuring."""
    check_smallest_effect(wishes.smallest_effect, "--smallest-effect")
    check_smallest_effect(wishes.false_alarms, "--false-alarms")
    if "nothing" in wishes.fail_on and len(wishes.fail_on) > 1:
        raise InvalidInput("--fail-on nothing stands by itself: leave the others out, or leave it out")
    if not 0 <= wishes.again_s < float("inf"):
        raise InvalidInput(f"--again {wishes.again_s:g}: give seconds, 0 for not at all")
    doubled = {target for target in wishes.targets if wishes.targets.count(target) > 1}
    if doubled:
        raise InvalidInput(f"--target {', '.join(sorted(doubled))} is given twice: name each target once")


@contextmanager
def one_night(results: Path) -> Iterator[None]:
    """Holds the results for this process; the kernel frees them however it ends. `Unavailable` where another has them."""
    with written(results, "--results"):
        results.mkdir(parents=True, exist_ok=True)
    try:
        with locked(results / LOCK, wait=False, remove=True):
            yield
    except BlockingIOError:
        raise Unavailable(
            f"another `pressbench nightly` is at work on {results}: wait for it, or name another --results"
        ) from None


def run_target(
    target: str,
    wishes: Wishes,
    request: Request,
    told: Told,
    *,
    results: Path,
    url: str | None,
    cache: Path,
    watch: Watch,
) -> None:
    """Continues the interrupted run of one target or begins another, and measures its suspects again.

    A target that cannot be run is noted; the others go on. Raises `DiskFull`.
    """
    try:
        resume = has_interrupted(request, results, url)
        if resume:
            told.notes.append(f"{target}: an interrupted run was continued")
        done = run_suite(request, results=results, url=url, resume=resume, report=False, cache=cache, watch=watch)
        told.runs.append(done.answer["run_id"])
        if not done.measured:
            raise Unavailable("no cell could be measured; column `reason` of cells.csv says why")
        told.notes += [
            f"{target}: board {name} was taken out: {why}" for name, why in done.answer.get("alarms", {}).items()
        ]
        with open_existing(results, url) as store:
            if left := done.answer.get("left", 0):
                store.finish_run(done.answer["run_id"], "finished", now())
                told.notes.append(f"{target}: cells without a board: {left}; the night is over without them")
            (run,) = [one for one in store.runs() if one.run_id == done.answer["run_id"]]
            told.notes += [f"{target}: {why}" for why in keep_files(store, run, results, cache)]
            if wishes.again_s and run.status == "finished":
                check_again(store, run, wishes, told, results=results, cache=cache, watch=watch)
    except DiskFull:
        raise
    except PressbenchError as error:
        told.failed[target] = error


def check_again(
    store: Store, run: Run, wishes: Wishes, told: Told, *, results: Path, cache: Path, watch: Watch
) -> None:
    """Measures the suspects of a run, and notes how many."""
    night = judge_night(
        store,
        rate=wishes.false_alarms,
        smallest_effect=wishes.smallest_effect,
        recent=wishes.nights,
        target=run.target,
    )
    if night.newest.run_id != run.run_id:
        told.notes.append(
            f"{run.target}: run {night.newest.run_id} began after tonight's, so no changed file of tonight was run beside its last "
            "good one"
        )
        return
    if not night.suspects:
        return
    if run.request.get("fleet"):
        told.notes.append(
            f"{run.target}: {len(night.suspects)} changed files were not run beside their last good ones: not done on a fleet"
        )
        return
    count = measure_suspects(
        store,
        run,
        night.suspects,
        results=results,
        cache=cache,
        watch=watch,
        smallest_effect=wishes.smallest_effect,
        budget_s=wishes.again_s,
    )
    told.notes.append(
        f"{run.target}: {count} of {len(night.suspects)} changed files were run beside their last good ones"
    )


def has_interrupted(request: Request, results: Path, url: str | None) -> bool:
    """Whether an interrupted run of this target and suite waits, of this version, revision and machine, and begun with what both say
    now, no finished one being newer. Raises `InvalidInput` for a suite or target that does not load."""
    if find_absent_file(url) if url else not (results / "pressbench.db").exists():
        return False
    with open_existing(results, url) as store:
        own = [run for run in store.runs() if (run.target, run.suite) == (request.target, request.suite)]
    runs = [run for run in own if SEARCH not in run.request]
    if not runs or runs[-1].status != "interrupted" or not is_of_this_code(runs[-1]):
        return False
    if request.fleet is None and describe_move(runs[-1], load_target(request.target)):
        return False
    return runs[-1].settings == "" or runs[-1].settings == find_settings(request)


def tidy(store: Store, wishes: Wishes, results: Path) -> list[str]:
    """Removes kept files that no night needs, and old raw samples; what was done, in words."""
    notes = []
    needed, thinned = {digest for one in store.remeasured() for digest in (one.good, one.tonight)}, 0
    thin_ones = store.thinned()
    for newest in group_nights(store.runs()):
        for run in newest[wishes.keep_samples :]:
            with suppress(Damaged):
                thinned += 0 if run.run_id in thin_ones else thin_run(store, run)
        for _, night in read_figures(store, newest[:GOOD_NIGHTS]):
            needed |= set(night.state.digests)
    removed = prune_kept(results, needed)
    if removed:
        notes.append(f"{len(removed)} kept files that no recent night has were removed")
    if thinned:
        notes.append(f"raw samples of {thinned} cells older than {wishes.keep_samples} runs were thinned to quantiles")
    return notes


def group_nights(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each target and suite, the newest first."""
    of_kind: dict[tuple[str, str], list[Run]] = {}
    for run in reversed(runs):
        of_kind.setdefault(name_nights(run), []).append(run)
    return list(of_kind.values())


def thin_run(store: Store, run: Run) -> int:
    """Thins the records of a run; how many were not thin yet. Where none is left, the next nights do not read them."""
    count, touched_at = 0, store.touched_at(run.run_id)
    for record in store.records(run.run_id):
        thinner = thin(record)
        if thinner != record:
            store.add(thinner)
            count += 1
    if not count:
        store.mark_thinned(run.run_id, touched_at)
    return count


def conclude(night: Night, wishes: Wishes, told: Told) -> tuple[Any, str, int]:
    """The answer, the text and the exit code of a night."""
    failing: Sequence[Kind] = [FAIL_ON[word] for word in wishes.fail_on if word != "nothing"]
    extra, code, lost = write_answers(
        night, failing, junit=wishes.junit, markdown=wishes.markdown, github=wishes.github
    )
    lines = [to_terminal(night), *(f"note: {plain(note)}" for note in told.notes)]
    lines += [f"no run on {target}: {plain(str(error))}" for target, error in told.failed.items()]
    lines += [f"no report: {plain(str(told.unwritten))}"] if told.unwritten else []
    answer = {
        **to_json(night),
        "failed": night.count(failing),
        "runs_tonight": told.runs,
        "without_run": {target: str(error) for target, error in told.failed.items()},
        "night_notes": told.notes,
    }
    if told.unwritten:
        answer["without_report"] = str(told.unwritten)
    if lost:
        answer["not_written"] = [str(error) for error in lost]
    lacking = [*told.failed.values(), *([told.unwritten] if told.unwritten else []), *lost]
    unrun = next((error.exit_code for error in lacking), 0)
    return answer, "\n".join(lines) + extra, code or unrun
