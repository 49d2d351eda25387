"""One node of a profile, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records import LayerTime
from bench.report.text import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node: `time` in microseconds as text, `share` of all nodes' time in percent."""

    name: str
    operator: str
    time: str
    share: float
    placed: str


def make_node(layer: LayerTime, total: float) -> Node:
    """One node of a profile that takes `total` microseconds."""
    return Node(
        name=layer.name,
        operator=layer.operator,
        time=number(layer.mean_us),
        share=100 * layer.mean_us / total,
        placed=layer.placed_on,
    )
