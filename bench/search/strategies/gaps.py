"""Where a front is least known: the largest rectangle between two neighbours, in which another point may lie."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

SMALL = 0.01
"""Part of the whole area below which a rectangle is not worth a trial, and difference of shares below which nothing new
is found between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A candidate. `low`, `high`: the shares of the cost that the search aimed at and came to it. `cost`: over that of the
    uncompressed network. `loss`: over the largest that is of interest; from 1 on a candidate is of none, and only says
    where the front ends."""

    low: float
    high: float
    cost: float
    loss: float


Gap = tuple[float, float]
"""The shares between two neighbours, the smaller first."""


def find_gap(points: Sequence[Point], closed: Collection[Gap]) -> Gap | None:
    """Between the neighbours with the most unknown, but for those that are `closed`; None where all know enough."""
    front: list[Point] = []
    for one in sorted(points, key=lambda one: (one.cost, one.loss)):
        if one.loss >= 1:
            front = [one] if not front or front[-1].loss >= 1 else front
        elif not front or one.loss < front[-1].loss:
            front.append(one)
    sizes = {
        (cheap.high, dear.low): (dear.cost - cheap.cost) * (min(1.0, cheap.loss) - dear.loss)
        for cheap, dear in itertools.pairwise(front)
        if dear.low - cheap.high >= SMALL
    }
    open_ = [gap for gap, size in sizes.items() if size >= SMALL and gap not in closed]
    return max(open_, key=lambda gap: sizes[gap], default=None)
