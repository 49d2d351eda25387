"""The search itself, as NetAdapt does it: allocate, train shortly, measure the whole network, correct the table.

Yang et al. 2018, arXiv:1804.03230; the allocation by a latency table and a knapsack as in HALP, arXiv:2110.10811.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.errors import CellFailed
from bench.search.goal import MINIMIZED
from bench.search.nouns import Choice, whole_choice
from bench.search.prediction.predict import by_macs
from bench.search.strategies.axis import Axis, counts_weights
from bench.search.strategies.gaps import Gap, Point, find_gap
from bench.search.strategies.interface import (
    OVER,
    SKIPPED,
    Ended,
    Means,
    Scene,
    Trial,
    Tried,
    cost_of,
    least,
    number,
    quality_loss,
    rank,
)
from bench.search.strategies.walk import STEP, Walk

TURNS = 40
"""Allocations at most: several can be one choice, which is measured once."""
BETTER = 0.95
"""Of the best cost of another family: the share at which a dearer one begins. Where that loses too much, it ends there."""
WIDE = 10.0
"""Times the limit of quality up to which the front is of interest."""


def search(scene: Scene, means: Means) -> Ended:
    """Walks each family to its border, the cheapest first, each within its part of the time that is left; then on from there with
    more training, where that is left open. What time is left goes where the front of the best one is least known.

    A family begins with its steps on the uncompressed network. One that is not believed, or makes it no cheaper where
    the goal's cost counts, is not walked. One that refuses it has another try on the best candidate, and is walked from there.
    """
    begun = try_families(scene, means)
    if begun.why == OVER:
        return begun
    tried = [*begun.tried]
    walks = _begin_walks(scene, tried, means)
    over, why = min(1.0, means.spent()), ""
    for place, one in enumerate(walks, 1):
        one.beat(min([scene.best, *(other.best for other in walks[: place - 1])]))
        why = one.go_on(means.trial, over + (1 - over) * place / len(walks))
        tried += one.tried[1:]
    for refused in [one for one in begun.tried if one.row["status"] == SKIPPED]:
        later = _try_later(scene, refused, tried, walks, means)
        if later is not None and later.tried[-1].counts:
            walks.append(later)
            why = later.go_on(means.trial, 1.0)
        tried += later.tried[1:] if later is not None else []
    if means.longer is not None:
        for one in sorted(walks, key=lambda one: one.best):
            known = len(one.tried)
            why = one.train_longer(means.longer, 1.0)
            tried += one.tried[known:]
    if scene.front and scene.goal.minimize and why != OVER:
        best = min(walks, key=lambda one: one.best)
        known = len(best.tried)
        why = best.fill_front(means.longer or means.trial) or why
        tried += best.tried[known:]
    return Ended(tried=tuple(tried), why=why)


def _begin_walks(scene: Scene, tried: Sequence[Tried], means: Means) -> list[_Walked]:
    """One for each family that may be walked, the cheapest first. `tried`: the uncompressed network without and with each."""
    cheaper = (
        one for one in tried[1:] if one.counts and (counts_weights(scene.goal) or cost_of(one) < cost_of(scene.whole))
    )
    return [_Walked(scene, whole, means) for whole in sorted([scene.whole, *cheaper], key=cost_of)]


def _try_later(
    scene: Scene, refused: Tried, tried: Sequence[Tried], walks: Sequence[_Walked], means: Means
) -> _Walked | None:
    """A family on the best candidate so far, ready to be walked from there; None where none is narrowed, or the time is over.

    With it the uncompressed network, which it refused, is taken for as many times smaller as that candidate.
    """
    whole = whole_choice(scene.space.groups)
    best = next((one for one in rank(tried, scene.goal) if one.choice not in (None, whole)), None)
    if best is None or best.choice is None or not means.time_left(1.0):
        return None
    one = means.trial(best.choice, None, refused.family)
    walk = next(walk for walk in walks if walk.axis.whole.family == best.family)
    row = {**walk.axis.whole.row, "status": SKIPPED}
    for name in {one.column, "file_bytes", MINIMIZED.get(scene.goal.minimize, one.column)}:
        there, with_it, without = (number(each, name) for each in (row, one.row, best.row))
        row[name] = there * with_it / without if there and with_it and without else there
    walked = _Walked(scene, replace(refused, row=row), means)
    walked.tried.append(one)
    walked.aimed[one.choice] = walk.aimed.get(best.choice, [1.0])
    walked.beat(min(cost_of(known) for known in (best, one) if not known.over))
    return walked


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
    base = cost_of(scene.whole)
    return search(replace(scene, predictor=by_macs(scene.space, base)), means)


class _Walked:
    """One family's way to the border between what keeps the limits and what does not."""

    def __init__(self, scene: Scene, whole: Tried, means: Means) -> None:
        self.axis, self.means = Axis(scene, whole), means
        self.walk = self.axis.walk()
        self.tried, self.latest, self.own = [whole], [whole], scene.own
        self.aimed: dict[Choice | None, list[float]] = {whole.choice: [1.0]}

    @property
    def best(self) -> float:
        """As `least`."""
        return least(self.tried, self.axis.goal)

    def beat(self, best: float) -> None:
        """Looks for nothing dearer than `best`, which another family or network has reached, where it is the same that both make smaller."""
        goal = self.axis.goal
        if MINIMIZED.get(goal.minimize) == goal.cost and best < self.axis.base:
            most = best / self.axis.base
            self.walk = replace(self.walk, start=min(self.walk.start, BETTER * most), ceiling=most)

    def go_on(self, trial: Trial, part: float) -> str:
        """Tries candidates until the border is known, and says why it ended."""
        self.latest = self.tried[:] if trial is self.means.trial else self.tried[:1]
        known = {one.choice: one for one in self.latest}
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
