"""Allocation, and the walk to the border: what a search decides without a target."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bench.search.allocate import Limit, allocate
from bench.search.nouns import Costs, Group
from bench.search.strategies.walk import CLOSE, Walk


def drawn_groups(generator: np.random.Generator) -> list[Group]:
    counts = generator.integers(2, 5, size=4)
    losses = [[*sorted(generator.random(count - 1).tolist(), reverse=True), 0.0] for count in counts]
    return [
        Group(layers=(f"layer{place}",), widths=tuple(range(1, count + 1)), losses=tuple(found))
        for place, (count, found) in enumerate(zip(counts.tolist(), losses, strict=True))
    ]


def drawn_costs(groups: list[Group], generator: np.random.Generator) -> Costs:
    sizes = [len(group.widths) for group in groups]
    return Costs(
        constant=1.0,
        single={place: np.cumsum(generator.random(size)) for place, size in enumerate(sizes[:2])},
        pairs={
            (one, two): np.cumsum(np.cumsum(generator.random((sizes[one], sizes[two])), 0), 1)
            for one, two in ((0, 1), (1, 2), (2, 3))
        },
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_allocation_is_the_best_of_all_choices_that_keep_two_limits(seed):
    generator = np.random.default_rng(seed)
    groups = drawn_groups(generator)
    time, size = drawn_costs(groups, generator), drawn_costs(groups, generator)
    every = list(product(*(range(len(group.widths)) for group in groups)))
    limits = [
        Limit(costs=one, most=float(np.quantile([one.of(choice) for choice in every], 0.4))) for one in (time, size)
    ]

    def loss(choice: tuple[int, ...]) -> float:
        return sum(group.losses[place] for group, place in zip(groups, choice, strict=True))

    kept = [choice for choice in every if all(one.costs.of(choice) <= one.most for one in limits)]
    found = allocate(groups, limits)
    assert found in kept
    assert loss(found) == pytest.approx(min(map(loss, kept)))


def test_a_limit_below_the_cheapest_choice_has_no_allocation():
    generator = np.random.default_rng(0)
    groups = drawn_groups(generator)
    assert allocate(groups, [Limit(costs=drawn_costs(groups, generator), most=1.0)]) is None


@pytest.mark.parametrize(("tightest", "start"), [(True, 0.8), (False, 0.97)])
@pytest.mark.parametrize("border", [0.93, 0.5, 0.11])
def test_the_walk_ends_beside_the_border(tightest, start, border):
    walk = Walk(tightest=tightest, start=start)
    while (share := walk.next()) is not None:
        walk.add(share, passes=(share >= border) if tightest else (share <= border))
    found = min(walk.passed, default=1.0) if tightest else max(walk.passed)
    assert max(found, border) / min(found, border) < CLOSE


def test_a_budget_that_is_kept_at_once_ends_the_walk():
    walk = Walk(tightest=False, start=0.97 * 0.6, ceiling=0.6)
    walk.add(0.97 * 0.6, passes=True)
    assert walk.next() is None
