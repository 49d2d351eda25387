"""What goes with a residual branch besides its layers, as a normalization: a price for each kind of branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.search.groups import Space
from bench.search.nouns import Choice, Costs, whole_choice

Kind = tuple[int, ...]
"""Groups of which the first width, 0, removes branches that are alike."""


def find_kinds(space: Space) -> tuple[Kind, ...]:
    """The groups that are a branch; in one kind those whose widths change the same layers, in the same way."""
    found: dict[object, list[int]] = {}
    for place, group in enumerate(space.groups):
        if not group.branch:
            continue
        sides = (
            (
                one.shape,
                one.weights,
                one.factor,
                *((side.whole, side.per.get(place)) for side in (one.inputs, one.outputs)),
            )
            for one in space.layers
            if place in one.groups
        )
        found.setdefault((group.widths, *sides), []).append(place)
    return tuple(map(tuple, found.values()))


def without_one(space: Space, kind: Kind) -> Choice:
    """The uncompressed network without one branch of that kind."""
    return tuple(0 if place == kind[0] else width for place, width in enumerate(whole_choice(space.groups)))


def count_gone(kinds: Sequence[Kind], choice: Choice) -> list[int]:
    """For each kind, how many of its branches a choice is without."""
    return [sum(choice[group] == 0 for group in kind) for kind in kinds]


def with_branches(space: Space, costs: Costs, kinds: Sequence[Kind], prices: Sequence[float]) -> Costs:
    """The costs, and for each branch that goes the price of its kind: below 0 where more goes than its layers."""
    single = dict(costs.single)
    for kind, price in zip(kinds, prices, strict=True):
        for group in kind:
            one = np.zeros(len(space.groups[group].widths))
            one[0] = price
            single[group] = single.get(group, 0.0) + one
    return replace(costs, single=single)
