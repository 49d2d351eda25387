"""What is missing and why: cells that did not end ok, notes on those that did, and empty figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report.cells import Cell, group
from bench.report.names import make_conditions_namer
from bench.report.signs import MARKS
from bench.types import Conditions, Status

ORDER = (Status.FAILED, Status.UNTRUSTED, Status.INCONCLUSIVE, Status.SKIPPED, Status.OK)
SAMPLES = re.compile(r"^\d+(?= samples support no )")
"""The number of samples that a percentile lacks: it differs from cell to cell, the reason does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A reason and the cells it holds for, by name. `where`: "" where it holds for all cells of a model."""

    names: list[str]
    where: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Reasons of one status."""

    status: str
    mark: str
    reasons: list[Reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Why figures are missing: their columns and the number of cells."""

    why: str
    columns: list[str]
    cells: int


def list_troubles(cells: Sequence[Cell]) -> list[Trouble]:
    """Cells with a reason or without an ok, by status."""
    by_status = group(cells, lambda cell: cell.record.status)
    return [
        Trouble(
            status="noted" if status is Status.OK else status.value,
            mark=MARKS[status],
            reasons=list_reasons(chosen, cells),
        )
        for status in ORDER
        if (chosen := [c for c in by_status.get(status, []) if c.record.reasons or status is not Status.OK])
    ]


def list_reasons(chosen: Sequence[Cell], cells: Sequence[Cell]) -> list[Reason]:
    """Each reason once per place. A runtime that is not installed is one trouble, not one per recipe.

    `cells`: all cells of the page. A reason that every cell of a model has stands once, whatever the place.
    """
    name_conditions = make_conditions_namer(cells)
    models = group(cells, lambda cell: cell.record.model)
    whole = {model for model, members in models.items() if len(members) > 1 and len(set(map(explain, members))) == 1}

    def find_place(cell: Cell) -> str:
        return "" if cell.record.model in whole else describe_place(cell, name_conditions)

    places = group(cells, lambda cell: (find_place(cell), cell.record.model))
    found = []
    for (where, why), members in group(chosen, lambda cell: (find_place(cell), explain(cell)[1])).items():
        by_model = group(members, lambda cell: cell.record.model)
        names = [name for model, own in by_model.items() for name in name_cells(own, places[where, model])]
        found.append(Reason(names=names, where=where, why=why))
    return found


def describe_place(cell: Cell, name_conditions: Callable[[Conditions], tuple[str, ...]]) -> str:
    """Backend, target, and conditions where they differ."""
    record = cell.record
    return ", ".join((f"{record.backend} on {record.target}", *name_conditions(record.conditions)))


def explain(cell: Cell) -> tuple[Status, str]:
    """How a cell ended and why."""
    return cell.record.status, "; ".join(cell.record.reasons) or "no reason was given"


def name_cells(cells: Sequence[Cell], every: Sequence[Cell]) -> list[str]:
    """Cells of one model by recipe; as one where they are all there are (`every`), and there are several."""
    model = cells[0].record.model
    if len(every) > 1 and len(cells) == len(every):
        return [f"{model}, all {len(every)} cells"]
    return list(dict.fromkeys(f"{model} / {cell.record.recipe}" for cell in cells))


def list_gaps(cells: Sequence[Cell]) -> list[Gap]:
    """Why figures are missing: each reason once, with the number of cells that it holds for."""
    found = Counter((SAMPLES.sub("so few", why), column) for cell in cells for column, why in cell.missing.items())
    reasons: dict[str, dict[str, int]] = {}
    for (why, column), number_of in found.items():
        reasons.setdefault(why, {})[column] = number_of
    return [Gap(why=why, columns=list(columns), cells=max(columns.values())) for why, columns in reasons.items()]
