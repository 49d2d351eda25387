"""The times of two profiles beside each other: by operator, and layer by layer where both name them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import PressbenchError
from bench.line.measure import time_artifact
from bench.line.versus.sides import Side
from bench.records import LayerTime

PROFILE_RUNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An operator or a layer: how many kernels of it ran and their time for one inference, 0 where there are none."""

    name: str
    operator: str
    a_count: int
    b_count: int
    a_us: float
    b_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Rows by the size of their difference, the largest first. `reason`: why there are none."""

    operators: tuple[Row, ...] = ()
    layers: tuple[Row, ...] = ()
    reason: str = ""


def profile_sides(a: Side, b: Side, runs: int = PROFILE_RUNS) -> Beside:
    """A profile of each side in a process of its own, one after another: what it found, or why there is none."""
    profiles = []
    for side in (a, b):
        try:
            found = time_artifact(side.bench, side.artifact, profile_runs=runs)
        except PressbenchError as error:
            return Beside(reason=f"{side.title}: {error}")
        if not found.profile:
            return Beside(reason=f"{side.title}: {found.missing.get('profile', 'its runtime times no single layers')}")
        profiles.append(found.profile)
    return put_beside(profiles[0], profiles[1])


def put_beside(a: Sequence[LayerTime], b: Sequence[LayerTime]) -> Beside:
    """Sums by operator. Layers are paired by name and operator; one that a side lacks has a time of 0 there."""
    return Beside(
        operators=_add_up(a, b, lambda layer: (layer.operator, layer.operator)),
        layers=_add_up(a, b, lambda layer: (layer.name, layer.operator)),
    )


def _add_up(
    a: Sequence[LayerTime], b: Sequence[LayerTime], name: Callable[[LayerTime], tuple[str, str]]
) -> tuple[Row, ...]:
    counts: dict[tuple[str, str], list[float]] = {}
    for place, layers in enumerate((a, b)):
        for layer in layers:
            found = counts.setdefault(name(layer), [0, 0, 0.0, 0.0])
            found[place] += 1
            found[2 + place] += layer.mean_us
    rows = [
        Row(name=key[0], operator=key[1], a_count=int(one), b_count=int(two), a_us=a_us, b_us=b_us)
        for key, (one, two, a_us, b_us) in counts.items()
    ]
    return tuple(sorted(rows, key=lambda row: -abs(row.b_us - row.a_us)))
