"""The words that tell cells apart. A part that all cells share is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.report.cells import Cell, League
from bench.report.signs import CLOCKS
from bench.report.text import interval, number, short_percent, signed, times
from bench.stats import Estimate
from bench.types import Conditions

PLACES = {"backend": "", "target": "", "batch": "batch ", "threads": "threads ", "run_id": ""}
"""Columns that tell apart cells of one model and recipe -> the word before their value."""
SHOWN_PP = 0.005
"""A smaller change of accuracy would be shown as a signed zero."""


def label_cells(cells: Sequence[Cell]) -> list[str]:
    """For each cell its recipe, with backend, batch, threads and device where the cells differ in them."""
    parts = [
        (cell.record.recipe, cell.record.backend, *describe_conditions(c), c.device)
        for cell in cells
        for c in (cell.record.conditions,)
    ]
    differ = [position for position in range(1, 5) if len({part[position] for part in parts}) > 1]
    return [" · ".join((part[0], *(part[p] for p in differ))) for part in parts]


def label_places(cells: Sequence[Cell]) -> list[list[str]]:
    """For each cell the columns of `PLACES` in which these cells differ."""
    differ = [name for name in PLACES if len({cell.row[name] for cell in cells}) > 1]
    return [[f"{PLACES[name]}{cell.row[name]}" for name in differ] for cell in cells]


def make_league_namer(cells: Sequence[Cell]) -> Callable[[League], str]:
    """Names a league by its target and clock, and by its conditions where these cells have several."""
    name_conditions = make_conditions_namer(cells)
    return lambda of: ", ".join((f"on {of.target}", CLOCKS[of.clock], *name_conditions(of.conditions)))


def make_conditions_namer(cells: Sequence[Cell]) -> Callable[[Conditions], tuple[str, ...]]:
    """Puts conditions into words; into none where these cells all have the same."""
    if len({cell.record.conditions for cell in cells}) < 2:
        return lambda _: ()
    return lambda of: tuple(part for part in (*describe_conditions(of), of.device) if part)


def describe_conditions(conditions: Conditions) -> tuple[str, str]:
    """Batch and threads in words."""
    return f"batch {conditions.batch}", f"{conditions.threads} thread{'' if conditions.threads == 1 else 's'}"


def name_cell(cell: Cell) -> str:
    """Recipe and backend."""
    return f"{cell.record.recipe} on {cell.record.backend}"


def describe_speedup(cell: Cell) -> str:
    """Its speed over its baseline's, and where the pairs do not show a difference that; "" for a baseline or without."""
    speedup, effect = cell.figure("speedup"), short_percent(cell.record.smallest_effect)
    if speedup is None or cell.baseline:
        return ""
    if cell.verdict == "same":
        return f"its baseline's speed within {effect}"
    hidden = f" (inconclusive: not shown to differ by over {effect})" if cell.verdict == "inconclusive" else ""
    return f"{times(speedup)} its baseline's speed{hidden}"


def describe_drop(cell: Cell) -> str:
    """The change of accuracy, or of the task's score, and whether the samples show it; "" for a baseline or without."""
    drop = cell.figure("score_drop")
    if drop is None or cell.baseline:
        return ""
    name, points = name_score(cell), cell.figure("accuracy_drop_pp")
    if points is None:
        change = f"{name} {number(abs(drop))} {'worse' if drop > 0 else 'better'}" if drop else f"same {name}"
    else:
        change = f"{name} {signed(-points)} pp" if abs(points) >= SHOWN_PP else f"same {name}"
    return change if cell.drop_shows or not drop else f"{change} ({explain_hidden(cell)})"


def describe_loss(drop: Estimate) -> str:
    """A drop with its interval, positive is worse, and whether the samples show it."""
    within = interval(drop.low, drop.high)
    hidden = drop.low is not None and drop.high is not None and drop.low <= 0 <= drop.high
    said = f"not distinguishable from 0 with {drop.n} samples" if hidden else ""
    return join_parts((f"{drop.value:z.4g}", f"95 %: {drop.low:z.4g} to {drop.high:z.4g}" if within else "", said))


def explain_hidden(cell: Cell) -> str:
    """That the test samples cannot show the drop of a cell."""
    return f"not distinguishable from 0 with {cell.figure('test_samples'):.0f} samples"


def name_score(cell: Cell) -> str:
    """The accuracy, or what the task's score is called."""
    return str(cell.row["score_name"] or "accuracy")


def join_parts(parts: Sequence[str]) -> str:
    """The parts that are not empty, with commas between."""
    return ", ".join(part for part in parts if part)
