"""Series and boards that stopped reporting: an alarm of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from bench.records import Run
from bench.regress.alarms import Alarm, Kind
from bench.regress.history import History
from bench.regress.series import ON_BOARD, Series, SeriesKey
from bench.store import DAMAGED

LATE = 2.0
"""A group of runs is missing once so many of its usual gaps have passed, and retired after `RETIRED` of them."""
RETIRED = 14
FEWEST_RUNS = 3
INTERRUPTED = "interrupted"
LOOKED_BACK = 7
"""A series that had a figure in one of so many runs before the newest of its group is expected in it."""


def find_missing(history: History) -> list[Alarm]:
    """The groups of runs that stopped, and the series that the newest run of their group lacks."""
    alarms = []
    alike: dict[tuple[str, str], list[Series]] = {}
    for one in history.series.values():
        alike.setdefault((one.key.cell, one.key.metric), []).append(one)
    newest = max((run.started_at for run in history.runs), default="")
    for runs in group_runs(history.runs).values():
        stopped = describe_stop(runs, newest)
        if stopped:
            alarms.append(name_group(history, runs, stopped))
        else:
            lacking = [one for one in history.series.values() if lacks(one, runs, history)]
            alarms += [
                name_series(history, runs, one, find_other(one, runs[-1], alike[one.key.cell, one.key.metric]))
                for one in lacking
            ]
    return alarms


def group_runs(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Runs of one target and suite that were asked for the same cells, by start. One still running is left out."""
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.status not in ("running", DAMAGED):
            asked = run.request
            narrowed = {
                name: asked[name] for name in sorted(asked) if name in NARROWED or (name in ON_BOARDS and asked[name])
            }
            found.setdefault((run.target, run.suite, str(narrowed)), []).append(run)
    return found


NARROWED = ("models", "recipes", "backends", "data", "batch", "threads")
"""Fields of a run's request that say which cells it has."""
ON_BOARDS = ("sku", "tags", "each")
"""Those of a run on a fleet; requests of older versions have none."""


def describe_stop(runs: Sequence[Run], newest: str) -> str:
    """Since when a group has had no run, where that is late by its own habit; "" where it is not."""
    if len(runs) < FEWEST_RUNS:
        return ""
    starts = [read_moment(run.started_at) for run in runs]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    usual = timedelta(seconds=max(median(gap.total_seconds() for gap in gaps), 60.0))
    late = read_moment(newest) - starts[-1]
    if not LATE * usual < late <= RETIRED * usual:
        return ""
    return f"no run since {runs[-1].started_at}; usually one every {describe_gap(usual)}"


def lacks(series: Series, runs: Sequence[Run], history: History) -> bool:
    """Whether the newest run of the group has no figure of a series that an earlier one had.

    A cell that an interrupted run has not come to is not missing yet: the run can be continued.
    """
    if len(runs) < 2:
        return False
    if runs[-1].status == INTERRUPTED and history.explain_silence(runs[-1].run_id, series.key.cell) is None:
        return False
    had = set(series.points.run_ids.tolist())
    if runs[-1].run_id in had or not had & {run.run_id for run in runs[-1 - LOOKED_BACK : -1]}:
        return False
    return not _is_on_another_board(series, runs[-1], history)


def _is_on_another_board(series: Series, run: Run, history: History) -> bool:
    """Whether a run whose cells go to any free board of a fleet has this figure of another board."""
    if not run.request.get("sku") or run.request.get("each"):
        return False
    alike = without_board(series.key)
    return any(
        without_board(other.key) == alike and run.run_id in other.points.run_ids.tolist()
        for other in history.series.values()
    )


def without_board(key: SeriesKey) -> SeriesKey:
    """What a series has in common with that of another board."""
    return replace(key, device="", conditions=key.conditions.partition(ON_BOARD)[0])


def name_series(history: History, runs: Sequence[Run], series: Series, changed: str) -> Alarm:
    """The alarm of a series that the newest run lacks, with what that run says of its cell.

    `changed`: of `find_other`. Where it is not "", nothing is missing.
    """
    run, key = runs[-1], series.key
    first = find_first_lack(series, runs)
    why = (
        changed
        or history.explain_silence(run.run_id, key.cell, key.metric)
        or f"the run ({run.status}) has no such cell"
    )
    return Alarm(
        kind=Kind.ENVIRONMENT if changed else Kind.MISSING,
        series=key.text,
        metric=key.metric,
        since=first.started_at,
        night=history.nights[first.run_id],
        run_id=first.run_id,
        why=why,
        cause=f"{key.target} / {key.backend}: {why}",
    )


def find_other(series: Series, run: Run, alike: Sequence[Series]) -> str:
    """How the figure that a run has of the same cell differs, as "device A -> B"; "" where it has none. `alike`: the series of that
    cell and metric."""
    for other in alike:
        if run.run_id in other.points.run_ids.tolist():
            pairs = {name: (getattr(series.key, name), getattr(other.key, name)) for name in ("device", "data", "unit")}
            return "; ".join(f"{name} {old} -> {new}" for name, (old, new) in pairs.items() if old != new)
    return ""


def find_first_lack(series: Series, runs: Sequence[Run]) -> Run:
    """The first run of the group after the last one that had the figure."""
    had = set(series.points.run_ids.tolist())
    last = max(place for place, run in enumerate(runs) if run.run_id in had)
    return runs[last + 1]


def name_group(history: History, runs: Sequence[Run], why: str) -> Alarm:
    """The alarm of a target and suite without a run."""
    last = runs[-1]
    return Alarm(
        kind=Kind.MISSING,
        series=f"{last.target} / {last.suite}",
        metric="runs",
        since=last.started_at,
        night=history.nights[last.run_id],
        run_id=last.run_id,
        why=why,
        cause=f"{last.target}: {why}",
    )


def read_moment(text: str) -> datetime:
    """A stored time."""
    return datetime.fromisoformat(text)


def describe_gap(gap: timedelta) -> str:
    """Hours or days, to one digit."""
    hours = gap.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
