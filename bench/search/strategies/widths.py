"""The search itself, as NetAdapt does it: allocate, train shortly, measure the whole network, correct the table.

Yang et al. 2018, arXiv:1804.03230; the allocation by a latency table and a knapsack as in HALP, arXiv:2110.10811.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.errors import CellFailed
from bench.search.allocate import Limit, allocate
from bench.search.goal import MINIMIZED, UNITS
from bench.search.nouns import Choice, Costs, whole_choice
from bench.search.prediction.costs import add_up, count_weights
from bench.search.prediction.predict import Predictor, by_macs
from bench.search.strategies.gaps import Gap, Point, find_gap
from bench.search.strategies.interface import OVER, Ended, Means, Scene, Trial, Tried, number, quality_loss
from bench.search.strategies.walk import STEP, Walk

TURNS = 40
"""Allocations at most: several can be one choice, which is measured once."""
LOOSER = (1.0, 0.9, 0.8)
"""Shares of the aim at which candidates are allocated where the table is not believed."""
FLOAT_BYTES = 4
FIRST, FAST = 0.6, 0.64
"""The share of the uncompressed cost that is tried first where quality sets the border, and how much tighter each step is
until one fails. Trained networks often lose nothing down to a half, and each step there costs a training."""
BETTER = 0.95
"""Of the best cost of another family: the share at which a dearer one begins. Where that loses too much, it ends there."""
WIDE = 10.0
"""Times the limit of quality up to which the front is of interest."""

BY_WEIGHTS = frozenset({"file_kb", "memory_mb", "size", "memory"})
"""What weights decide, and not time: limits, and what is minimized."""


def search(scene: Scene, means: Means) -> Ended:
    """Walks each family to its border, the cheapest first, each within its part of the time that is left; then on from there with
    more training, where that is left open. What time is left goes where the front of the best one is least known.

    A family begins with its steps on the uncompressed network. One that is not believed, or makes it no cheaper where
    the goal's cost counts, is not walked.
    """
    begun = try_families(scene, means)
    if begun.why == OVER:
        return begun
    tried, why = [*begun.tried], ""
    cheaper = (one for one in tried[1:] if one.counts and (_counts_weights(scene) or _cost(one) < _cost(scene.whole)))
    walked = [scene.whole, *cheaper]
    walks = [_Walked(scene, whole, means) for whole in sorted(walked, key=_cost)]
    over = min(1.0, means.spent())
    for place, one in enumerate(walks, 1):
        one.beat(min((other.best for other in walks[: place - 1]), default=math.inf))
        why = one.go_on(means.trial, over + (1 - over) * place / len(walks))
        tried += one.tried[1:]
    if means.longer is not None:
        for one in sorted(walks, key=lambda one: one.best):
            known = len(one.tried)
            why = one.train_longer(means.longer, 1.0)
            tried += one.tried[known:]
    if scene.goal.minimize and why != OVER:
        best = min(walks, key=lambda one: one.best)
        known = len(best.tried)
        why = best.fill_front(means.longer or means.trial) or why
        tried += best.tried[known:]
    return Ended(tried=tuple(tried), why=why)


def try_families(scene: Scene, means: Means) -> Ended:
    """The steps of each family on the uncompressed network, while there is time: all there is where no layer can be narrowed."""
    tried = [scene.whole]
    for family in scene.families[1:]:
        if not means.time_left(1.0):
            return Ended(tried=tuple(tried), why=OVER)
        tried.append(means.trial(whole_choice(scene.space.groups), None, family))
    return Ended(tried=tuple(tried), why="no layer of this network can be narrowed")


def search_by_macs(scene: Scene, means: Means) -> Ended:
    """The same search, guided by multiply-accumulates in place of the target's own figures."""
    base = _cost(scene.whole)
    return search(replace(scene, predictor=by_macs(scene.space, base)), means)


def _cost(one: Tried) -> float:
    return one.cost or math.inf


def _counts_weights(scene: Scene) -> bool:
    goal = scene.goal
    resources = {*goal.limits} if not goal.minimize else {goal.minimize}
    return bool(resources) and resources <= BY_WEIGHTS


class _Walked:
    """One family's way to the border between what keeps the limits and what does not."""

    def __init__(self, scene: Scene, whole: Tried, means: Means) -> None:
        self.axis, self.means = _Axis(scene, whole), means
        self.walk = self.axis.walk()
        self.tried, self.latest, self.own = [whole], [whole], scene.own
        self.aimed: dict[Choice | None, list[float]] = {whole.choice: [1.0]}

    @property
    def best(self) -> float:
        """The least of what is minimized, else of the cost, that keeps every limit."""
        column = MINIMIZED.get(self.axis.goal.minimize, self.axis.goal.cost)
        kept = (number(one.row, column) for one in self.tried if one.counts and not one.over)
        return min((value for value in kept if value is not None), default=math.inf)

    def beat(self, best: float) -> None:
        """Looks for nothing dearer than `best`, which another family has reached, where it is the same that both make smaller."""
        goal = self.axis.goal
        if MINIMIZED.get(goal.minimize) == goal.cost and best < self.axis.base:
            most = best / self.axis.base
            self.walk = replace(self.walk, start=min(self.walk.start, BETTER * most), ceiling=most)

    def go_on(self, trial: Trial, part: float) -> str:
        """Tries candidates until the border is known, and says why it ended."""
        self.latest = self.tried[:1]
        known: dict[Choice, Tried] = {whole_choice(self.axis.space.groups): self.tried[0]}
        for _ in range(TURNS):
            share = self.walk.next()
            if share is None:
                return "the border is known within 6 %"
            choice = self.axis.choose(share, self.tried, self.means)
            if choice is None:
                if not self.walk.tightest:
                    return self.axis.explain_impossible(share)
                self.walk.add(share, passes=False)
                continue
            if choice not in known:
                if not self.means.time_left(part, longer=trial is self.means.longer):
                    return OVER
                known[choice] = trial(choice, self.axis.predict(choice, self.tried), self.axis.whole.family)
                self.tried.append(known[choice])
                self.latest.append(known[choice])
            one = known[choice]
            self.aimed.setdefault(choice, []).append(share)
            passes = one.fits_quality if self.walk.tightest else one.fits_resources
            if passes and self.walk.tightest and choice == self.axis.narrowest:
                return "the narrowest widths keep the limit"
            self.walk.add(share, passes=passes)
        return f"{TURNS} allocations were made"

    def train_longer(self, trial: Trial, part: float) -> str:
        """From the border on, where quality sets it; else the widths at the border once more, which resources set."""
        passed = self.walk.passed
        if self.walk.tightest:
            self.walk = replace(self.walk, passed=passed, failed=[], step=STEP)
        elif passed:
            self.walk = Walk(tightest=False, start=max(passed), ceiling=max(passed))
        return self.go_on(trial, part)

    def fill_front(self, trial: Trial) -> str:
        """Tries candidates between neighbours of the front, and says why it ended; "" where nothing is unknown."""
        closed: set[Gap] = set()
        filled: set[Choice | None] = {one.choice for one in self.latest}
        why = ""
        while (gap := find_gap(self._points(), closed)) is not None:
            why = "the front is known"
            if not self.means.time_left(1.0, longer=trial is self.means.longer):
                return OVER
            share = sum(gap) / 2
            try:
                choice = self.axis.choose(share, self.tried, self.means)
            except CellFailed:  # the solver found nothing in time: the front is as good as it is
                choice = None
            if choice is None or choice in filled:
                closed.add(gap)
            else:
                filled.add(choice)
                self.tried.append(trial(choice, self.axis.predict(choice, self.tried), self.axis.whole.family))
            self.aimed.setdefault(self.axis.narrowest if choice is None else choice, []).append(share)
        return why

    def _points(self) -> list[Point]:
        """What was tried, and the narrowest widths, of which no more is known than what they cost."""
        most = WIDE * max(self.axis.goal.quality.values(), default=0.0)
        if not most:
            return []
        least = self.axis.least
        points = [Point(low=least, high=max(self.aimed.get(self.axis.narrowest, [least])), cost=least, loss=1.0)]
        for one in (*self.tried, *self.own):
            cost = self.axis.minimized(one)
            if one.counts and math.isfinite(cost):
                shares = self.aimed.get(one.choice, [cost])
                loss = max(0.0, quality_loss(one)) / most
                points.append(Point(low=min(shares), high=max(shares), cost=cost, loss=loss))
        return points


class _Axis:
    """What the search tightens: the goal's cost by the predictor, or weights where size or memory count."""

    def __init__(self, scene: Scene, whole: Tried) -> None:
        assert scene.predictor is not None
        assert whole.cost is not None
        self.space, self.goal, self.whole = scene.space, scene.goal, whole
        self.weights: Costs = add_up(scene.space.layers, scene.space.groups, count_weights)
        self.by_weights = _counts_weights(scene)
        self.base, self.float_base = whole.cost, _cost(scene.whole)
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
