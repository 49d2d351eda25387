"""The search itself, as NetAdapt does it: allocate, train shortly, measure the whole network, correct the table.

Yang et al. 2018, arXiv:1804.03230; the allocation by a latency table and a knapsack as in HALP, arXiv:2110.10811.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.search.allocate import Limit, allocate
from bench.search.costs import add_up, count_weights
from bench.search.goal import DROPS, ERROR, MINIMIZED, Goal
from bench.search.groups import Space
from bench.search.nouns import Choice, Costs, whole_choice
from bench.search.predict import Predictor
from bench.search.walk import Walk

Row = Mapping[str, str | float | int | None]
TURNS = 40
"""Allocations at most: several can be one choice, which is measured once."""
LOOSER = (1.0, 0.9, 0.8)
"""Shares of the aim at which candidates are allocated where the table is not believed."""
FLOAT_BYTES = 4
UNTRUSTED = ("failed", "skipped", "untrusted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A candidate that was measured. `row`: of cells.csv. `over`: limit -> its figure, for each that it exceeds.

    `predicted_ms`: before it was measured; None for the uncompressed network. `recipe`: its text.
    """

    choice: Choice
    recipe: str
    key: str
    row: Row
    over: Mapping[str, float]
    predicted_ms: float | None

    @property
    def counts(self) -> bool:
        """Whether its figures may be believed."""
        return self.row["status"] not in UNTRUSTED and self.latency_ms is not None

    @property
    def latency_ms(self) -> float | None:
        """Measured."""
        return number(self.row, "latency_p50_ms")

    @property
    def fits_resources(self) -> bool:
        """Whether it exceeds no limit but that of quality."""
        return self.counts and not {*self.over} - {*DROPS, ERROR}

    @property
    def fits_quality(self) -> bool:
        """Whether it keeps the limit of quality."""
        return self.counts and not {*self.over} & {*DROPS, ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How candidates are measured. `trial`: trains and measures one, as a cell that is stored. `quick`: latencies in ms
    of whole untrained candidates. `time_left`: whether another trial fits."""

    trial: Callable[[Choice, float | None], Tried]
    quick: Callable[[Sequence[Choice]], Sequence[float]]
    time_left: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """All that was tried, the uncompressed network first, and why no more was."""

    tried: tuple[Tried, ...]
    why: str


def search(space: Space, predictor: Predictor, goal: Goal, whole: Tried, means: Means) -> Ended:
    """Tries candidates until the border between what keeps the limits and what does not is known, or time is over."""
    axis = _Axis(space, predictor, goal, whole)
    walk = axis.walk()
    tried = [whole]
    for _ in range(TURNS):
        share = walk.next()
        if share is None:
            return Ended(tried=tuple(tried), why="the border is known within 6 %")
        choice = axis.choose(share, tried, means)
        if choice is None:
            if not walk.tightest:
                return Ended(tried=tuple(tried), why=axis.explain_impossible(share))
            walk.add(share, passes=False)
            continue
        known = next((one for one in tried if one.choice == choice), None)
        if known is None and not means.time_left():
            return Ended(tried=tuple(tried), why="the time is over")
        one = known or means.trial(choice, axis.predict(choice, tried))
        if known is None:
            tried.append(one)
        walk.add(share, passes=one.fits_quality if walk.tightest else one.fits_resources)
    return Ended(tried=tuple(tried), why=f"{TURNS} allocations were made")


class _Axis:
    """The cost along which the search tightens: latency by the predictor, or weights where size or memory count."""

    def __init__(self, space: Space, predictor: Predictor, goal: Goal, whole: Tried) -> None:
        self.space, self.predictor, self.goal, self.whole = space, predictor, goal, whole
        self.weights: Costs = add_up(space.layers, space.groups, count_weights)
        resources = {*goal.limits} if not goal.minimize else {goal.minimize}
        self.by_weights = resources <= {"file_kb", "memory_mb", "size", "memory"} and bool(resources)
        assert whole.latency_ms is not None
        self.base_ms = whole.latency_ms

    def walk(self) -> Walk:
        """From the limits where they say where the border is, else from the uncompressed network."""
        limits = self.goal.limits
        if self.goal.minimize:
            return Walk(tightest=True, start=0.8)
        ceiling = 1.0
        if self.by_weights and "file_kb" in limits:
            ceiling = limits["file_kb"] * 1e3 / (number(self.whole.row, "file_bytes") or math.inf)
        elif not self.by_weights and "latency_p50_ms" in limits:
            ceiling = limits["latency_p50_ms"] / self.base_ms
        ceiling = min(1.0, ceiling)
        return Walk(tightest=False, start=0.97 * ceiling, ceiling=ceiling)

    def predict(self, choice: Choice, tried: Sequence[Tried]) -> float:
        """The latency expected now, in ms."""
        return self._corrected(tried).predict(choice)

    def _corrected(self, tried: Sequence[Tried]) -> Predictor:
        seen = [(one.choice, one.latency_ms) for one in tried[1:] if one.counts and one.latency_ms is not None]
        return self.predictor.corrected(seen)

    def choose(self, share: float, tried: Sequence[Tried], means: Means) -> Choice | None:
        """The choice of least loss at that share of the uncompressed cost. Measures candidates where the table is not
        believed."""
        predictor = self._corrected(tried)
        if self.by_weights or not predictor.why:
            return allocate(self.space.groups, self._limits(share, predictor))
        aim = share * self.base_ms
        found = [allocate(self.space.groups, self._limits(share * part, predictor)) for part in LOOSER]
        candidates = list(dict.fromkeys(choice for choice in found if choice is not None))
        times = dict(zip(candidates, means.quick(candidates), strict=True)) if len(candidates) > 1 else {}
        fitting = [choice for choice in candidates if times.get(choice, 0.0) <= aim]
        return next(iter(fitting), None) or min(candidates, key=lambda one: times.get(one, 0.0), default=None)

    def _limits(self, share: float, predictor: Predictor) -> list[Limit]:
        weights = self.weights.of(whole_choice(self.space.groups))
        limits = [Limit(costs=self.weights, most=share * weights)]
        if not self.by_weights:
            limits = [Limit(costs=predictor.costs, most=predictor.most(share * self.base_ms))]
            if "file_kb" in self.goal.limits and (size := number(self.whole.row, "file_bytes")):
                spare = self.goal.limits["file_kb"] * 1e3 - (size - FLOAT_BYTES * weights)
                limits.append(Limit(costs=self.weights, most=max(0.0, spare / FLOAT_BYTES)))
        elif "latency_p50_ms" in self.goal.limits:
            limits.append(Limit(costs=predictor.costs, most=predictor.most(self.goal.limits["latency_p50_ms"])))
        return limits

    def explain_impossible(self, share: float) -> str:
        """No choice is this cheap: says what the cheapest one costs."""
        least = tuple(0 for _ in self.space.groups)
        if self.by_weights:
            left = self.weights.of(least) / self.weights.of(whole_choice(self.space.groups))
            return f"the narrowest widths keep {left:.0%} of the weights, and {share:.0%} were asked for"
        return (
            f"the narrowest widths are predicted to take {self.predictor.predict(least):.4g} ms, and "
            f"{share * self.base_ms:.4g} ms were asked for"
        )


def number(row: Row, column: str) -> float | None:
    """A figure of a row."""
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def rank(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """Those that keep every limit, the best first.

    Best is least of what is minimized, else the best quality, and then the fastest.
    """

    def order(one: Tried) -> tuple[float, float]:
        latency = one.latency_ms or math.inf
        if goal.minimize:
            value = number(one.row, MINIMIZED[goal.minimize])
            return (math.inf if value is None else value), latency
        return quality_loss(one), latency

    return sorted((one for one in tried if one.counts and not one.over), key=order)


def quality_loss(one: Tried) -> float:
    """The drop, or the output's error where there are no labels; 0 for the uncompressed network."""
    found = (number(one.row, name) for name in (*DROPS, ERROR))
    return next((value for value in found if value is not None), 0.0 if one.predicted_ms is None else math.inf)


def front(tried: Sequence[Tried]) -> list[Tried]:
    """Those that no other beats both in latency and in quality, the slowest first."""
    usable = [one for one in tried if one.counts]
    kept = [one for one in usable if not any(_beats(other, one) for other in usable)]
    return sorted(kept, key=lambda one: -(one.latency_ms or 0.0))


def _beats(one: Tried, other: Tried) -> bool:
    ours, theirs = (one.latency_ms or 0.0, quality_loss(one)), (other.latency_ms or 0.0, quality_loss(other))
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]
