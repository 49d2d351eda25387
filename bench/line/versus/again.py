"""Runs a file of tonight side by side with a kept one of an earlier night, in the cell that both belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from bench.errors import InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.line.cell import RunState, setting_of
from bench.line.measure import pair_launch
from bench.line.plan import Plan, PlannedCell
from bench.line.prepare import Prepared, Setting, prepare
from bench.line.versus.kept import find_kept
from bench.line.versus.until import Patience, launch_until
from bench.records import PairLaunch
from bench.types import Artifact

Pair = tuple[str, str, str]
"""Key of a cell, digest of its good file, digest of tonight's."""
Measured = Callable[[Pair, tuple[PairLaunch, ...], int, str], None]
"""Called for each pair with its launches and threads, or with the reason why there are none."""


def measure_again(
    pairs: Sequence[Pair],
    plan: Plan,
    setting: Setting,
    results: Path,
    patience: Patience,
    budget_s: float,
    on_pair: Measured,
    smallest_effect: float,
) -> None:
    """Each pair until `patience` ends, one after another, none once `budget_s` seconds are over.

    A pair that cannot be measured has its reason; the others go on.
    """
    begun, cells = monotonic(), {cell.key: cell for cell in plan.cells}
    state = RunState(plan=plan, run_id="", setting=setting)
    for pair in pairs:
        left = budget_s - (monotonic() - begun)
        try:
            if left <= 0:
                raise Unavailable(f"the {budget_s:g} s for measuring again were over")
            patient = replace(patience, time_s=min(patience.time_s, left))
            launches, threads = measure_pair(pair, cells, state, results, patient, smallest_effect)
        except PressbenchError as error:
            on_pair(pair, (), 1, str(error))
        else:
            on_pair(pair, launches, threads, "")


def measure_pair(
    pair: Pair,
    cells: dict[str, PlannedCell],
    state: RunState,
    results: Path,
    patience: Patience,
    smallest_effect: float,
) -> tuple[tuple[PairLaunch, ...], int]:
    """The launches, A the good file, and the threads of the runtime.

    Raises `Unavailable` for a file that is gone, `InvalidInput` for a cell that is not planned, and what preparing it
    and a launch raise.
    """
    key, good, tonight = pair
    before = find_kept(results, good)
    if key not in cells:
        raise InvalidInput("the suite has no such cell any more")
    prepared = prepare_cell(cells[key], state)
    after = find_tonight(prepared, results, tonight)
    bench = prepared.bench
    assert bench is not None
    done = launch_until(
        lambda number: pair_launch(bench, before, after, number),
        patience,
        threads=bench.conditions.threads,
        smallest_effect=smallest_effect,
        progress=lambda share: state.setting.progress("measure again", share),
    )
    return done.pairs, bench.conditions.threads


def prepare_cell(cell: PlannedCell, state: RunState) -> Prepared:
    """The cell as the run prepared it, from the cache. Raises `Unsupported` where nothing is timed."""
    prepared = prepare(cell.model, cell.recipe, cell.backend, cell.conditions, setting_of(cell, state))
    if prepared.bench is None or prepared.bench.reach.counts:
        raise Unsupported(f"{cell.backend.title} times nothing: there is nothing to measure again")
    return prepared


def find_tonight(prepared: Prepared, results: Path, digest: str) -> Artifact:
    """Tonight's file: the one that was just prepared, or the kept one where the code has gone on since."""
    return prepared.artifact if prepared.artifact.digest == digest else find_kept(results, digest)
