"""What pruning gives on an FPGA: the multiplications left out, the logic that is left, and what a CPU made of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.cells import Cell, group, league_of
from bench.report.text import count, times
from bench.types import Clock

SAME_SHARE = 0.02
"""Two networks are pruned alike if the shares of MACs that they keep differ by no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """One pruned design beside the dense one of the same bits, as text. `cpu`: "" without a cell pruned alike."""

    cell: Cell
    model: str
    against: str
    promised: str
    lut: str
    cycles: str
    counted: str
    source: str
    cpu: str


def list_pruned(cells: Sequence[Cell]) -> list[Pruned]:
    """A row for each pruned design whose LUTs are known and whose model has a denser design of the same precision."""
    found = []
    for members in group(cells, lambda cell: (league_of(cell), precision_of(cell))).values():
        designs = [cell for cell in members if cell.figure("lut") and multiplied(cell)]
        dense = max(designs, key=multiplied, default=None)
        if dense is None or kept_share(dense) < 1 - SAME_SHARE:
            continue
        found += [compare(cell, dense, cells) for cell in designs if kept_share(cell) < 1 - SAME_SHARE]
    return found


def compare(cell: Cell, dense: Cell, cells: Sequence[Cell]) -> Pruned:
    """Every ratio is the dense design's figure over the pruned one's: above 1 is less logic, or less time."""
    sources = {source_of(one) for one in (cell, dense)}
    return Pruned(
        cell=cell,
        model=cell.record.model,
        against=dense.record.recipe,
        promised=times(multiplied(dense) / multiplied(cell)),
        lut=times(ratio(cell, dense, "lut")),
        cycles=times(ratio(cell, dense, "cycles")),
        counted=f"{count(dense.figure('lut'))} → {count(cell.figure('lut'))}",
        source=" against ".join(sorted(sources)),
        cpu=find_measured(cell, cells),
    )


def find_measured(cell: Cell, cells: Sequence[Cell]) -> str:
    """The measured speed-up of the same model with as many of its MACs left, and where; "" where none was measured."""
    for other in cells:
        speedup = other.figure("speedup")
        same = other.record.model == cell.record.model and abs(kept_share(other) - kept_share(cell)) <= SAME_SHARE
        if same and speedup is not None and other.trusted and other.record.clock is not Clock.SIMULATED:
            return f"{times(speedup)} ({other.record.recipe} on {other.record.backend})"
    return ""


def precision_of(cell: Cell) -> str:
    """The precision that was asked for."""
    return cell.record.precision.asked if cell.record.precision else ""


def kept_share(cell: Cell) -> float:
    """Multiplications by a weight that is not zero, over all of them."""
    macs = cell.record.cost.macs if cell.record.cost else 0
    return multiplied(cell) / macs if macs else 1.0


def multiplied(cell: Cell) -> int:
    """Multiplications by a weight that is not zero."""
    return cell.record.cost.nonzero_macs if cell.record.cost else 0


def ratio(cell: Cell, dense: Cell, column: str) -> float | None:
    """The dense design's figure over the pruned one's; None without both."""
    mine, others = cell.figure(column), dense.figure(column)
    return others / mine if mine and others else None


def source_of(cell: Cell) -> str:
    """Where the LUTs of a design come from: yosys or da4ml's estimate."""
    simulation = cell.record.simulation
    sources = simulation.notes.get("sources", {}) if simulation else {}
    return str(sources.get("lut", "")) or "source unknown"
