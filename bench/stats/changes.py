"""Change points of a series by E-divisive: hierarchical bisection by energy statistics, with permutation tests.

D. S. Matteson and N. A. James, A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data,
J. American Statistical Association 109 (2014), arXiv:1306.4933, with exponent 1. Apache Otava has the same statistic;
it pins another numpy (docs/dependencies.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 2
"""Points on each side of a change: a single one is an outlier as well as a change."""
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
"""Probability, by the tail of `CLEAR` permutations, from which on a change is taken for certain."""
ROUNDED = 1e-4
"""Statistics of permutations that differ by less are equal: their sums are in 32 bits."""

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


def find_changes(values: Sequence[float], *, seed: int = 0, level: float = LEVEL, exact: bool = True) -> list[Change]:
    """Every change point, by index. Deterministic for a seed. ValueError: a value is not finite.

    `exact`: whether the probability of a clear change is wanted; without, the same changes are found 5 times as fast.

    The stretch whose best split has the largest statistic is tested next; the first test that does not reject at
    `level` ends the search. A stretch of fewer than 4 points has no change.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series with values that are not finite")
    random = np.random.default_rng(seed)
    ends, found = [0, len(series)], list[Change]()
    splits: dict[tuple[int, int], Split | None] = {}
    while True:
        stretches = list(pairwise(ends))
        for stretch in stretches:
            if stretch not in splits:
                splits[stretch] = best_split(series[slice(*stretch)])
        open_ones = [(split.statistic, stretch, split) for stretch in stretches if (split := splits[stretch])]
        if not open_ones:
            break
        _, (start, stop), split = max(open_ones, key=lambda one: one[0])
        p = permutation_p(series[start:stop], random, exact=exact)
        if p > level:
            break
        found.append(Change(index=start + split.index, p=p, statistic=split.statistic))
        ends = sorted([*ends, start + split.index])
    return sorted(found, key=lambda change: change.index)


def best_split(values: Values) -> Split | None:
    """The split with the largest statistic; None with fewer than 4 points, or where none is above 0."""
    if len(values) < 2 * LEAST or values.min() == values.max():
        return None
    found = make_search(len(values), np.float64)(values)
    return found if found.statistic > 0 else None


@lru_cache(maxsize=4)
def weigh(size: int, kind: str) -> tuple[NDArray[Any], ...]:
    """What `make_search` multiplies sums of distances by for every (tau, kappa): 0 where a side is too short."""
    taus, kappas = np.arange(LEAST, size - LEAST + 1)[:, None], np.arange(2 * LEAST, size + 1)[None, :]
    n, m = taus.astype(np.float64), np.maximum(kappas - taus, LEAST).astype(np.float64)
    allowed = kappas - taus >= LEAST
    right = np.where(allowed, 2 * n / ((n + m) * (m - 1)), 0)
    between = np.where(allowed, 2 / (n + m) + right, 0)
    left = np.where(allowed, 2 * m / ((n + m) * (n - 1)) - right + 2 * between, 0)
    return tuple(one.astype(kind) for one in (between, left, right))


def make_search(size: int, kind: type[np.floating[Any]]) -> Callable[[Values], Split]:
    """Finds the best split of `size` points: (tau, kappa) over every two neighbouring stretches of 2 points or more.

    For X = the n points before tau and Y = the m points from tau to kappa, the statistic is n m / (n + m) times
    2/(n m) sum |X_i - Y_j| - 2/(n (n-1)) sum |X_i - X_k| - 2/(m (m-1)) sum |Y_j - Y_k| (sums over i < k and j < k;
    equations 5 and 7). All sums come from one two-dimensional prefix sum, so a search is O(size**2).
    `kind`: of the sums. The same constant is taken off every distance, which changes no statistic and keeps sums small.
    """
    between, left, right = weigh(size, np.dtype(kind).name)
    apart, columns, sums = (np.empty((size, size), kind) for _ in range(3))
    found, part = np.empty_like(between), np.empty_like(between)

    def search(values: Values) -> Split:
        np.abs(np.subtract(values[:, None], values[None, :], out=apart, casting="same_kind"), out=apart)
        np.subtract(apart, apart.sum() / (size * (size - 1)), out=apart)
        np.fill_diagonal(apart, 0)
        apart.cumsum(axis=0, out=columns).cumsum(axis=1, out=sums)
        within = sums.diagonal() / 2
        np.multiply(sums[LEAST - 1 : size - LEAST, 2 * LEAST - 1 :], between, out=found)
        for half, weight in ((within[LEAST - 1 : size - LEAST, None], left), (within[2 * LEAST - 1 :], right)):
            np.subtract(found, np.multiply(half, weight, out=part), out=found)
        place = int(found.argmax())
        return Split(index=place // found.shape[1] + LEAST, statistic=float(found.flat[place]))

    return search


def permutation_p(values: Values, random: np.random.Generator, *, exact: bool = True) -> float:
    """How often a random order of the values has a split as good as theirs, of at most 499 orders.

    Where fewer than `EXCEEDED` of all orders reach it, an exponential tail through the largest of them says how rare
    it is (as Knijnenburg et al., Fewer permutations, more accurate P-values, Bioinformatics 25, 2009, with shape 0:
    energy statistics have exponential tails). Never below 2 / C(n, k), k points being on the smaller side: so often
    chance puts the same k points at an end. Unless `exact`, only the first `CLEAR` orders are searched where these say
    less than `NEVER`; the others are drawn all the same, so that the next test gets the orders it would have got.
    """
    scaled = (values - np.median(values)) / np.ptp(values)
    search = make_search(len(values), np.float32)
    own, reached, drawn = search(scaled), 0, list[float]()
    while len(drawn) < PERMUTATIONS and reached < EXCEEDED:
        drawn.append(search(random.permutation(scaled)).statistic)
        reached += drawn[-1] >= own.statistic * (1 - ROUNDED)
        if not exact and len(drawn) == CLEAR and tail_p(np.sort(drawn), own.statistic, reached) < NEVER:
            for _ in range(PERMUTATIONS - CLEAR):
                random.permutation(scaled)
            break
    if reached >= EXCEEDED:
        return reached / len(drawn)
    return max(tail_p(np.sort(drawn), own.statistic, reached), 2 / comb(len(values), own.index))


def tail_p(drawn: Values, statistic: float, reached: int) -> float:
    """The probability of `statistic` or more by an exponential tail; at most (reached + 1) / (drawn + 1)."""
    counted = (reached + 1) / (len(drawn) + 1)
    threshold = float(drawn[-TAIL - 1])
    scale = float(drawn[-TAIL:].mean()) - threshold
    if scale <= 0 or statistic <= threshold:
        return counted
    return min(counted, TAIL / len(drawn) * float(np.exp(-(statistic - threshold) / scale)))
