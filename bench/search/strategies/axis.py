"""What a search tightens, and the choice of least loss at a share of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.search.allocate import Limit, allocate
from bench.search.goal import MINIMIZED, UNITS, Goal
from bench.search.nouns import Choice, Costs, whole_choice
from bench.search.prediction.costs import add_up, count_weights
from bench.search.prediction.predict import Predictor
from bench.search.strategies.interface import Means, Scene, Tried, cost_of, number
from bench.search.strategies.walk import Walk

LOOSER = (1.0, 0.9, 0.8)
"""Shares of the aim at which candidates are allocated where the table is not believed."""
FLOAT_BYTES = 4
FIRST, FAST = 0.6, 0.64
"""The share of the uncompressed cost that is tried first where quality sets the border, and how much tighter each step is
until one fails. Trained networks often lose nothing down to a half, and each step there costs a training."""

BY_WEIGHTS = frozenset({"file_kb", "memory_mb", "size", "memory"})
"""What weights decide, and not time: limits, and what is minimized."""


def counts_weights(goal: Goal) -> bool:
    """Whether weights decide all that is limited, or minimized."""
    resources = {*goal.limits} if not goal.minimize else {goal.minimize}
    return bool(resources) and resources <= BY_WEIGHTS


def narrows(goal: Goal) -> str:
    """The column of what narrowing makes smaller for this goal."""
    return MINIMIZED.get(goal.minimize, "file_bytes" if counts_weights(goal) else goal.cost)


class Axis:
    """The goal's cost by the predictor, or weights where size or memory count. `whole`: the uncompressed network with a family."""

    def __init__(self, scene: Scene, whole: Tried) -> None:
        assert scene.predictor is not None
        assert whole.cost is not None
        self.space, self.goal, self.whole = scene.space, scene.goal, whole
        self.weights: Costs = add_up(scene.space.layers, scene.space.groups, count_weights)
        self.by_weights = counts_weights(scene.goal)
        self.base, self.float_base = whole.cost, cost_of(scene.whole)
        self.predictor = scene.predictor.scaled(self.base / self.float_base)
        sizes = [number(one.row, "file_bytes") or math.inf for one in (whole, scene.whole)]
        self.weight_bytes = FLOAT_BYTES * sizes[0] / sizes[1] if math.inf not in sizes else FLOAT_BYTES

    def walk(self) -> Walk:
        """From the limits where they say where the border is, else from the uncompressed network."""
        limits = self.goal.limits
        if self.goal.minimize:
            return Walk(tightest=True, start=FIRST, step=FAST)
        ceiling = 1.0
        if self.by_weights and "file_kb" in limits:
            ceiling = limits["file_kb"] * 1e3 / (number(self.whole.row, "file_bytes") or math.inf)
        elif not self.by_weights and self.goal.cost in limits:
            ceiling = limits[self.goal.cost] / self.base
        ceiling = min(1.0, ceiling)
        return Walk(tightest=False, start=0.97 * ceiling, ceiling=ceiling)

    def predict(self, choice: Choice, tried: Sequence[Tried]) -> float:
        """The cost expected now."""
        return self._corrected(tried).predict(choice)

    def _corrected(self, tried: Sequence[Tried]) -> Predictor:
        seen = [
            (one.choice, one.cost)
            for one in tried[1:]
            if one.choice is not None and one.counts and one.cost is not None
        ]
        return self.predictor.corrected(seen)

    def choose(self, share: float, tried: Sequence[Tried], means: Means) -> Choice | None:
        """The choice of least loss at that share of the uncompressed cost. Measures candidates, without the family, where a limit
        on the cost is to be kept and the table is not believed."""
        predictor = self._corrected(tried)
        if self.by_weights or self.goal.minimize or not predictor.why:
            return self._allocate(share, predictor)
        found = [self._allocate(share * part, predictor) for part in LOOSER]
        candidates = list(dict.fromkeys(choice for choice in found if choice is not None))
        times = dict(zip(candidates, means.quick(candidates), strict=True)) if len(candidates) > 1 else {}
        fitting = [choice for choice in candidates if times.get(choice, 0.0) <= share * self.float_base]
        return next(iter(fitting), None) or min(candidates, key=lambda one: times.get(one, 0.0), default=None)

    def _allocate(self, share: float, predictor: Predictor) -> Choice | None:
        found = allocate(self.space.groups, self._limits(share, predictor))
        return None if found is None else self.space.settle(found)

    def _limits(self, share: float, predictor: Predictor) -> list[Limit]:
        weights = self.weights.of(whole_choice(self.space.groups))
        limits = [Limit(costs=self.weights, most=share * weights)]
        if not self.by_weights:
            limits = [Limit(costs=predictor.costs, most=self._most(share, predictor))]
            if "file_kb" in self.goal.limits and (size := number(self.whole.row, "file_bytes")):
                spare = self.goal.limits["file_kb"] * 1e3 - (size - self.weight_bytes * weights)
                limits.append(Limit(costs=self.weights, most=max(0.0, spare / self.weight_bytes)))
        elif self.goal.cost in self.goal.limits:
            limits.append(Limit(costs=predictor.costs, most=predictor.most(self.goal.limits[self.goal.cost])))
        return limits

    def _most(self, share: float, predictor: Predictor) -> float:
        """The largest price. Where no limit on the cost is to be kept, no correction by single figures decides what is
        possible; and with a table that is not believed, the share is of the way from the narrowest widths."""
        if not self.goal.minimize:
            return predictor.most(share * self.base)
        if not predictor.why:
            return self.predictor.most(share * self.base)
        least, whole = (predictor.costs.of(one) for one in (self.narrowest, whole_choice(self.space.groups)))
        return least + share * (whole - least)

    def minimized(self, one: Tried) -> float:
        """What is made smaller, over that of the uncompressed network; infinite where it is not known."""
        column = MINIMIZED[self.goal.minimize]
        value, whole = number(one.row, column), number(self.whole.row, column)
        return math.inf if value is None or not whole else value / whole

    @property
    def least(self) -> float:
        """The share at which the narrowest widths are expected; 0 where the predictor is not believed."""
        if self.by_weights:
            return self.weights.of(self.narrowest) / self.weights.of(whole_choice(self.space.groups))
        return 0.0 if self.predictor.why else max(0.0, self.predictor.predict(self.narrowest) / self.base)

    @property
    def narrowest(self) -> Choice:
        """The fewest channels in each group, and the lowest ranks that make layers smaller then."""
        return self.space.settle(tuple(0 for _ in self.space.groups))

    def explain_impossible(self, share: float) -> str:
        """No choice is this cheap: says what the cheapest one costs."""
        least = self.narrowest
        if self.by_weights:
            left = self.weights.of(least) / self.weights.of(whole_choice(self.space.groups))
            return f"the narrowest widths keep {left:.0%} of the weights, and {share:.0%} were asked for"
        unit = UNITS[self.goal.cost]
        return (
            f"the narrowest widths are predicted to take {self.predictor.predict(least):.4g}{unit}, and "
            f"{share * self.base:.4g}{unit} were asked for"
        )
