"""The largest energy statistic of many orders of the same values at once, as the permutation tests of a change point need it.

Sums grow along the stretches' lengths, one addition of whole rows a length. numpy's running sums add one value at a time
and wait for each: in batches of 8 a year's length takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LEAST = 2
"""Points on each side of a change: a single one is an outlier as well as a change."""
TOGETHER = 24
"""Lengths that are weighed in one step: their sums stay in a core's cache."""

Short = NDArray[np.float32]


@lru_cache(maxsize=4)
def weigh_lengths(size: int) -> tuple[Short, Short]:
    """What sums within the left and the right stretch are multiplied by, at (points on the right, points on the left)."""
    right, left = np.arange(size + 1, dtype=np.float64)[:, None], np.arange(size, dtype=np.float64)[None, :]
    allowed = (left >= LEAST) & (right >= LEAST) & (left + right <= size)
    both = np.where(allowed, left + right, 1)
    of_left = np.where(allowed, 2 / both * (1 + right / np.where(allowed, left - 1, 1)), 0)
    of_right = np.where(allowed, 2 / both * (1 + left / np.where(allowed, right - 1, 1)), 0)
    return of_left.astype(np.float32), of_right.astype(np.float32)


def make_searches(size: int, most: int) -> Callable[[Short], Short]:
    """Searches at most `most` orders of the same `size` values: rows of values -> the largest statistic of each, at least 0.

    The statistic is that of `bench.stats.changes.make_search`, in 32 bits. With W(a, b) = the sum of the distances within
    points a to b, and the left stretch from 0: n m / (n + m) (2 between / (n m) - ...) is
    2 W(0, n+m) / (n+m) - of_left W(0, n) - of_right W(n, n+m). `sums[m - 1]` becomes W(t, t + m) for every t.
    """
    of_left, of_right = weigh_lengths(size)
    sums, part = np.empty((size, most, size), np.float32), np.empty((TOGETHER, most, size), np.float32)
    flat = sums.reshape(size, most * size)

    def search(orders: Short) -> Short:
        count = len(orders)
        spread_distances(orders, sums[:, :count])
        add_lengths(flat[:, : count * size])
        firsts = np.zeros((count, size + 1), np.float32)
        firsts[:, 1:] = sums[:, :count, 0].T
        wholes = np.full((count, 2 * size + 1), -np.inf, np.float32)
        wholes[:, : size + 1] = firsts * (2 / np.maximum(np.arange(size + 1), 1)).astype(np.float32)
        whole = sliding_window_view(wholes, size, axis=1).transpose(1, 0, 2)
        best = np.zeros(count, np.float32)
        for start in range(LEAST, size - LEAST + 1, TOGETHER):
            stop, end = min(start + TOGETHER, size - LEAST + 1), size - start + 1
            found, left = sums[start - 1 : stop - 1, :count, LEAST:end], part[: stop - start, :count, LEAST:end]
            np.multiply(found, of_right[start:stop, None, LEAST:end], out=found)
            np.multiply(firsts[None, :, LEAST:end], of_left[start:stop, None, LEAST:end], out=left)
            np.subtract(whole[start:stop, :, LEAST:end], np.add(found, left, out=found), out=found)
            np.maximum(best, found.max(axis=(0, 2)), out=best)
        return best

    return search


def spread_distances(orders: Short, apart: Short) -> None:
    """Writes |x[t] - x[t + lag]| to (lag, order, t), less their mean, which changes no statistic and keeps sums small."""
    count, size = orders.shape
    ranks = 2 * np.arange(size) - size + 1
    usual = np.float32(2 * (np.sort(orders[0]).astype(np.float64) * ranks).sum() / (size * (size - 1)))
    padded = np.zeros((count, 2 * size), np.float32)
    padded[:, :size] = orders
    later = sliding_window_view(padded, size, axis=1).transpose(1, 0, 2)
    for start in range(0, size, TOGETHER):
        stop, end = min(start + TOGETHER, size), size - start
        some = apart[start:stop, :, :end]
        np.abs(np.subtract(later[start:stop, :, :end], orders[:, :end], out=some), out=some)
        np.subtract(some, usual, out=some)
        apart[start:stop, :, end:] = 0
    apart[0] = 0


def add_lengths(rows: Short) -> None:
    """Turns distances by lag into sums within stretches by length. What would reach past an order's end is never used."""
    for shorter, longer in pairwise(rows):
        np.add(shorter, longer, out=longer)
    for shorter, longer in pairwise(rows):
        np.add(shorter[1:], longer[:-1], out=longer[:-1])
