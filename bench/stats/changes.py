"""Change points of a series by E-divisive: hierarchical bisection by energy statistics, with permutation tests.

D. S. Matteson and N. A. James, A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data,
J. American Statistical Association 109 (2014), arXiv:1306.4933, with exponent 1. Apache Otava has the same statistic;
it pins another numpy (docs/dependencies.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import final

import numpy as np
from numpy.typing import NDArray

from bench.stats.splits import LEAST, make_searches

LEVEL = 0.01
"""Probability with which a test of `find_changes` splits a series without a change."""
PERMUTATIONS = 499
EXCEEDED = 2
"""A test ends once so many permutations reach the statistic; p is then this over their number (Besag and Clifford,
Sequential Monte Carlo p-values, Biometrika 78, 1991)."""
TAIL = 50
"""Largest permuted statistics that an exponential tail is fitted to."""
CLEAR = 60
NEVER = 1e-6
"""Probability, by the tail of `CLEAR` permutations or more, below which a change is taken for certain."""
ROUNDED = 1e-4
"""Statistics of permutations that differ by less are equal: their sums are in 32 bits."""
FEW, MOST_TOGETHER, AT_ONCE = 8, 64, 2**20
"""Orders that are searched together: first, at most, and how many squares of their length."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The series differs from `index` on. `p`: of the permutation test that found it; `statistic`: its energy."""

    index: int
    p: float
    statistic: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The likeliest change of a stretch: `index` is the first point after it, in the stretch."""

    index: int
    statistic: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A series that is to be searched, as `find_changes` takes it."""

    values: tuple[float, ...]
    seed: int
    exact_from: int


def answer(questions: Sequence[Question]) -> list[list[Change]]:
    """The changes of each series."""
    return [find_changes(one.values, seed=one.seed, exact_from=one.exact_from) for one in questions]


def find_changes(values: Sequence[float], *, seed: int = 0, level: float = LEVEL, exact_from: int = 0) -> list[Change]:
    """Every change point, by index. Deterministic for a seed. ValueError: a value is not finite.

    `exact_from`: the probabilities of changes before this index are not wanted; 1 stands there. The changes are the same.

    The stretch whose best split has the largest statistic is tested next; the first test that does not reject at
    `level` ends the search. A stretch of fewer than 4 points has no change.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series with values that are not finite")
    ends, found = [0, len(series)], list[Change]()
    splits: dict[tuple[int, int], Split | None] = {}
    while stretch := pick_stretch(series, ends, splits):
        start, stop = stretch
        orders = Orders(series[start:stop], np.random.default_rng([seed, start, stop]))
        if not orders.reject(level):
            break
        split = split_once(series, stretch, splits)
        if split is None or rarest(stop - start, split.index) > level:
            break
        index = start + split.index
        p = orders.p(split.index) if index >= exact_from else 1.0
        found.append(Change(index=index, p=p, statistic=split.statistic))
        ends = sorted([*ends, index])
    return sorted(found, key=lambda change: change.index)


def pick_stretch(
    series: Values, ends: Sequence[int], splits: dict[tuple[int, int], Split | None]
) -> tuple[int, int] | None:
    """The stretch to be tested next; None where none can be split. A single one need not be searched for that."""
    stretches = [one for one in pairwise(ends) if can_split(series[slice(*one)])]
    if len(stretches) < 2:
        return stretches[0] if stretches else None
    found = [(split.statistic, one) for one in stretches if (split := split_once(series, one, splits))]
    return max(found)[1] if found else None


def split_once(series: Values, stretch: tuple[int, int], splits: dict[tuple[int, int], Split | None]) -> Split | None:
    """The best split of a stretch; `splits`: those that were found."""
    if stretch not in splits:
        splits[stretch] = best_split(series[slice(*stretch)])
    return splits[stretch]


def can_split(values: Values) -> bool:
    """Whether it has the points, and two that differ."""
    return len(values) >= 2 * LEAST and bool(values.min() < values.max())


def best_split(values: Values) -> Split | None:
    """The split with the largest statistic; None with fewer than 4 points, or where none is above 0."""
    if not can_split(values):
        return None
    found = search(values)
    return found if found.statistic > 0 else None


@lru_cache(maxsize=4)
def weigh(size: int) -> tuple[Values, ...]:
    """What `search` multiplies sums of distances by for every (tau, kappa): 0 where a side is too short."""
    taus, kappas = np.arange(LEAST, size - LEAST + 1)[:, None], np.arange(2 * LEAST, size + 1)[None, :]
    n, m = taus.astype(np.float64), np.maximum(kappas - taus, LEAST).astype(np.float64)
    allowed = kappas - taus >= LEAST
    right = np.where(allowed, 2 * n / ((n + m) * (m - 1)), 0)
    between = np.where(allowed, 2 / (n + m) + right, 0)
    left = np.where(allowed, 2 * m / ((n + m) * (n - 1)) - right + 2 * between, 0)
    return between, left, right


def search(values: Values) -> Split:
    """The best split: (tau, kappa) over every two neighbouring stretches of 2 points or more.

    For X = the n points before tau and Y = the m points from tau to kappa, the statistic is n m / (n + m) times
    2/(n m) sum |X_i - Y_j| - 2/(n (n-1)) sum |X_i - X_k| - 2/(m (m-1)) sum |Y_j - Y_k| (sums over i < k and j < k;
    equations 5 and 7). All sums come from one two-dimensional prefix sum, so a search is O(size**2).
    The same constant is taken off every distance, which changes no statistic and keeps sums small.
    """
    size = len(values)
    between, left, right = weigh(size)
    apart = np.abs(values[:, None] - values[None, :])
    np.subtract(apart, apart.sum() / (size * (size - 1)), out=apart)
    np.fill_diagonal(apart, 0)
    sums = apart.cumsum(axis=0).cumsum(axis=1)
    within = sums.diagonal() / 2
    found = sums[LEAST - 1 : size - LEAST, 2 * LEAST - 1 :] * between
    for half, weight in ((within[LEAST - 1 : size - LEAST, None], left), (within[2 * LEAST - 1 :], right)):
        np.subtract(found, half * weight, out=found)
    place = int(found.argmax())
    return Split(index=place // found.shape[1] + LEAST, statistic=float(found.flat[place]))


@final
class Orders:
    """How often a random order of values has a split as good as theirs: drawn only as far as a question needs.

    A permutation test of at most `PERMUTATIONS` orders. It ends where `EXCEEDED` of them reached the statistic.
    """

    def __init__(self, values: Values, random: np.random.Generator) -> None:
        self._scaled = ((values - np.median(values)) / np.ptp(values)).astype(np.float32)
        self._random = random
        self._batch = min(MOST_TOGETHER, max(FEW, AT_ONCE // len(values) ** 2))
        self._search = make_searches(len(values), self._batch)
        first = self._search(np.stack([self._scaled, *self._draw(FEW - 1)]))
        self._own, self._reached, self._drawn = float(first[0]), 0, list[float]()
        self._count(first[1:])

    def reject(self, level: float) -> bool:
        """Whether the probability is at most `level`: the same as by all orders, or, from `CLEAR` orders on, certainly."""
        while self._reached < EXCEEDED and len(self._drawn) < min(PERMUTATIONS, EXCEEDED / level):
            if len(self._drawn) >= CLEAR and self._tail() < NEVER:
                return True
            self._go_on()
        return self._reached < EXCEEDED or EXCEEDED / len(self._drawn) <= level

    def p(self, index: int) -> float:
        """The probability; `index`: of the best split.

        Where fewer than `EXCEEDED` of all orders reach it, an exponential tail through the largest of them says how rare
        it is (as Knijnenburg et al., Fewer permutations, more accurate P-values, Bioinformatics 25, 2009, with shape 0:
        energy statistics have exponential tails).
        """
        while self._reached < EXCEEDED and len(self._drawn) < PERMUTATIONS:
            self._go_on()
        if self._reached >= EXCEEDED:
            return EXCEEDED / len(self._drawn)
        return max(self._tail(), rarest(len(self._scaled), index))

    def _tail(self) -> float:
        return tail_p(np.sort(self._drawn), self._own, self._reached)

    def _go_on(self) -> None:
        self._count(self._search(np.stack(self._draw(min(self._batch, PERMUTATIONS - len(self._drawn))))))

    def _draw(self, count: int) -> list[NDArray[np.float32]]:
        return [self._random.permutation(self._scaled) for _ in range(count)]

    def _count(self, statistics: NDArray[np.float32]) -> None:
        """Takes the orders one by one: those after the last that was needed do not count."""
        for statistic in statistics.tolist():
            if self._reached < EXCEEDED:
                self._drawn.append(statistic)
                self._reached += statistic >= self._own * (1 - ROUNDED)


def rarest(points: int, index: int) -> float:
    """2 / C(n, k), k points being on the smaller side: so often chance puts the same k points at an end."""
    return 2 / comb(points, index)


def tail_p(drawn: Values, statistic: float, reached: int) -> float:
    """The probability of `statistic` or more by an exponential tail; at most (reached + 1) / (drawn + 1)."""
    counted = (reached + 1) / (len(drawn) + 1)
    threshold = float(drawn[-TAIL - 1])
    scale = float(drawn[-TAIL:].mean()) - threshold
    if scale <= 0 or statistic <= threshold:
        return counted
    return min(counted, TAIL / len(drawn) * float(np.exp(-(statistic - threshold) / scale)))
