"""What a search knows at its end, and the finalists, which are measured once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.compress.recipe import parse_recipe
from bench.errors import BoardLost, CellFailed
from bench.line.cell import RunState, make_ready
from bench.line.measure import Bench, measure_pairs
from bench.line.plan import Plan, PlannedCell, plan_recipe
from bench.line.run import begin, now
from bench.records import PairLaunch, Record
from bench.search.asked import Asked
from bench.search.backends import OnBackend
from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.judge import judge
from bench.search.networks.students import Student
from bench.search.prediction.predict import Predictor
from bench.search.strategies.interface import Ended, Tried
from bench.store import Store
from bench.types import Artifact, Step

FINALISTS = "search finalists"
"""The suite of the finalists' run in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """What the finalists did on the test set. `tried`: the uncompressed network, the winner and the runner-up, where
    there are any. `pairs`: winner over runner-up, fresh interleaved launches. `artifact`: the winner's file."""

    run_id: str
    tried: tuple[Tried, ...]
    pairs: tuple[PairLaunch, ...] = ()
    artifact: Artifact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a search knows at its end. `finals`: None where nothing keeps the limits. `predictor`: None for a
    strategy that asks for none. `backends`: what each did, where there were several, and `backend` with `threads` what was
    searched. `network`: the student whose layers `space` and `predictor` are of, the winner's; "" for the user's own network.
    `students`: what each did as it is written."""

    run_id: str
    goal: Goal
    space: Space
    predictor: Predictor | None
    ended: Ended
    ranked: tuple[Tried, ...]
    finals: Finals | None
    backend: str = ""
    threads: int = 1
    backends: tuple[OnBackend, ...] = ()
    network: str = ""
    students: tuple[Student, ...] = ()


def measure_finals(
    ranked: Sequence[Tried],
    *,
    asked: Asked,
    plan: Plan,
    goal: Goal,
    store: Store,
    state: Callable[[str, Sequence[PlannedCell]], RunState],
    measure: Callable[[PlannedCell, RunState], Record],
    note: Callable[[str], None],
) -> Finals:
    """Winner and runner-up as ordinary cells on all of the training set and the test set, and against each other.

    `state`: of a run by its id, and what a cluster makes of it at once. `measure`: the record of a cell, which is kept.
    """
    begun = replace(asked.begin(begin(asked.request)), suite=FINALISTS)
    store.begin_run(begun)
    base, finalists = plan.cells[0], _choose_finalists(ranked)
    named = zip(("winner", "runner-up"), finalists, strict=False)
    cells = [plan_recipe(plan, base, parse_recipe(name, one.recipe)) for name, one in named]
    of_run = state(begun.run_id, [base, *cells])
    record = measure(base, of_run)
    tried = [judge(record, record, goal)]
    artifacts = []
    for cell, one in zip(cells, finalists, strict=True):
        judged = judge(measure(cell, of_run), record, goal)
        tried.append(replace(one, key=judged.key, row=judged.row, over=judged.over, error=judged.error))
        if tried[-1].counts:
            artifacts.append(make_ready(cell, of_run).prepared)
    pairs: tuple[PairLaunch, ...] = ()
    if len(artifacts) == 2 and (bench := artifacts[0].bench) is not None:
        pairs = compare_finalists(bench, artifacts[1].artifact, artifacts[0].artifact, note)
    store.finish_run(begun.run_id, "finished", now())
    won = artifacts[0].artifact if artifacts and tried[1].counts else None
    return Finals(run_id=begun.run_id, tried=tuple(tried), pairs=pairs, artifact=won)


def _choose_finalists(ranked: Sequence[Tried]) -> list[Tried]:
    """The best two of different steps, without the uncompressed network; none where that is the best."""
    different: dict[tuple[Step, ...], Tried] = {}  # a recipe as it is written may be what the search found too
    for one in ranked:
        different.setdefault(parse_recipe("finalist", one.recipe).steps, one)
    finalists = [*different.values()][:2] if ranked[0].recipe else []
    return [one for one in finalists if one.recipe]


def compare_finalists(
    bench: Bench, runner_up: Artifact, winner: Artifact, note: Callable[[str], None]
) -> tuple[PairLaunch, ...]:
    """Both in turns; nothing where that fails, as each of them is measured already."""
    try:
        return measure_pairs(bench, runner_up, winner)
    except BoardLost:
        raise
    except CellFailed as error:
        note(f"winner and runner-up are not compared with each other: {error}")
        return ()
