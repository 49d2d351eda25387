"""How far each output of each cell is from the uncompressed network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records import OutputQuality
from bench.report.cells import Cell
from bench.report.names import make_conditions_namer, name_score
from bench.report.text import NONE, number, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow:
    """One output of one cell. Figures are text; `note`: what holds for them, or why there are none."""

    cell: str
    where: str
    output: str
    largest: str
    relative: str
    agreement: str
    note: str


def list_outputs(cells: Sequence[Cell]) -> list[OutputRow]:
    """A row per output that was compared, or whose network draws random numbers, in the order of the cells."""
    name_conditions = make_conditions_namer(cells)
    return [
        make_row(cell, name_conditions(cell.record.conditions), output, place)
        for cell in cells
        if cell.record.quality
        for place, output in enumerate(cell.record.quality.outputs)
        if output.compared or output.varying or output.own_spread
    ]


def make_row(cell: Cell, conditions: Sequence[str], output: OutputQuality, place: int) -> OutputRow:
    """The figures of one output. Those that do not count are shown with the reason."""
    record = cell.record
    return OutputRow(
        cell=f"{record.model} / {record.recipe}",
        where=", ".join((record.backend, *conditions)),
        output=output.name or f"number {place}",
        largest=number(output.max_abs_err),
        relative=number(output.relative_rms),
        agreement=percent(output.agreement),
        note="; ".join(describe(output, name_score(cell))) or NONE,
    )


def describe(output: OutputQuality, judged_by: str) -> list[str]:
    """How many rows were compared where not all were, the network's own spread, and what else judges it."""
    notes = []
    if output.compared < output.rows and (output.compared or output.varying):
        notes.append(f"compared on {output.compared} of {output.rows}")
    if output.own_spread:
        notes.append(f"two runs of the baseline differ by {number(output.own_spread)}")
    if output.redeemed:
        notes.append(f"judged by its {judged_by}")
    return notes
