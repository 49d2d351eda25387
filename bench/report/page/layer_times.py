"""Where the time goes: the slowest nodes of each profiled cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records import LayerTime
from bench.report.cells import Cell
from bench.report.names import make_conditions_namer
from bench.report.text import number

TOP_LAYERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node: `time` in microseconds as text, `share` of all nodes' time in percent."""

    name: str
    operator: str
    time: str
    share: float
    placed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The slowest nodes of one cell, and what the others take together ("" where there are none)."""

    name: str
    where: str
    nodes: list[Node]
    rest: str


def list_profiles(cells: Sequence[Cell]) -> list[Profile]:
    """One profile per cell that has one, in order."""
    name_conditions = make_conditions_namer(cells)
    return [
        make_profile(cell, name_conditions(cell.record.conditions))
        for cell in cells
        if sum(layer.mean_us for layer in cell.record.profile) > 0
    ]


def make_profile(cell: Cell, conditions: Sequence[str]) -> Profile:
    """The `TOP_LAYERS` slowest nodes of a profiled cell."""
    record = cell.record
    total = sum(layer.mean_us for layer in record.profile)
    top = sorted(record.profile, key=lambda layer: -layer.mean_us)[:TOP_LAYERS]
    rest = total - sum(layer.mean_us for layer in top)
    nodes = f"{len(record.profile)} nodes, {number(total)} µs in all"
    return Profile(
        name=f"{record.model} / {record.recipe}",
        where=", ".join((record.backend, *conditions, nodes)),
        nodes=[make_node(layer, total) for layer in top],
        rest=f"{number(rest)} µs in {len(record.profile) - len(top)} others" if rest > 0 else "",
    )


def make_node(layer: LayerTime, total: float) -> Node:
    """One node of a profile that takes `total` microseconds."""
    return Node(
        name=layer.name,
        operator=layer.operator,
        time=number(layer.mean_us),
        share=100 * layer.mean_us / total,
        placed=layer.placed_on,
    )
