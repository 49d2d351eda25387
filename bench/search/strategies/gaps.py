"""Where a front is least known: the largest rectangle between two neighbours, in which another point may lie."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

SMALL = 0.01
"""Part of the whole area below which a rectangle is not worth a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A candidate. `share`: what the search aimed at. `cost`: over that of the uncompressed network. `loss`: over the
    largest that is of interest; from 1 on a candidate is of none, and only says where the front ends."""

    share: float
    cost: float
    loss: float


Gap = tuple[float, float]
"""The shares of two neighbours, the smaller first."""


def find_gap(points: Sequence[Point], closed: Collection[Gap]) -> Gap | None:
    """The neighbours with the most unknown between them, but for those that are `closed`; None where all know enough."""
    front: list[Point] = []
    for one in sorted(points, key=lambda one: (one.cost, one.loss)):
        if one.loss >= 1:
            front = [one] if not front or front[-1].loss >= 1 else front
        elif not front or one.loss < front[-1].loss:
            front.append(one)
    sizes = {
        (cheap.share, dear.share): (dear.cost - cheap.cost) * (min(1.0, cheap.loss) - dear.loss)
        for cheap, dear in itertools.pairwise(front)
    }
    open_ = [gap for gap, size in sizes.items() if size >= SMALL and gap not in closed]
    return max(open_, key=lambda gap: sizes[gap], default=None)
