"""k-means of numbers on a line. It sorts once; after that a round's cost grows with the clusters, not the numbers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Init = Literal["linear", "density", "random"]
ROUNDS = 300
CANDIDATES = 100_000


def kmeans(values: Array, clusters: int, init: Init, seed: int) -> tuple[Array, Array]:
    """Centroids (ascending, float64, at most `clusters`), and for each value the index of its centroid (int64).

    Runs Lloyd's rounds until no value changes cluster, at most 300. `init` places the first centroids as in Han
    et al. 2016, section 3.2: "linear" evenly from the least to the greatest value, "density" at equal shares of
    the values, "random" at `clusters` of the values. An empty cluster takes the value farthest from its centroid.
    """
    ordered = np.sort(values).astype(np.float64)
    distinct = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf))]
    if len(distinct) <= clusters:
        return distinct, np.searchsorted(distinct, values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = _first(ordered, distinct, clusters, init, seed)
    cuts = np.zeros(0, dtype=np.int64)
    for _ in range(ROUNDS):
        before, cuts = cuts, np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2, side="right")
        ends = np.concatenate([[0], cuts, [len(ordered)]])
        if np.array_equal(before, cuts) and np.diff(ends).all():
            break
        centroids = np.sort(_means(ordered, sums, ends, centroids))
    places = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values, side="left")
    used = np.bincount(places, minlength=clusters) > 0
    return centroids[used], (np.cumsum(used) - 1)[places]


def _first(ordered: Array, distinct: Array, clusters: int, init: Init, seed: int) -> Array:
    if init == "linear":
        return np.linspace(ordered[0], ordered[-1], clusters)
    if init == "density":
        return np.quantile(ordered, (np.arange(clusters) + 0.5) / clusters)
    return np.sort(np.random.default_rng(seed).choice(distinct, clusters, replace=False))


def _means(ordered: Array, sums: Array, ends: Array, centroids: Array) -> Array:
    """The mean of each cluster. An empty one takes a value from another cluster that can spare one."""
    totals, counts = np.diff(sums[ends]), np.diff(ends)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        moved = _farthest(ordered, ends, centroids, len(empty))
        owners = np.searchsorted(ends, moved, side="right") - 1
        np.subtract.at(totals, owners, ordered[moved])
        np.subtract.at(counts, owners, 1)
        totals[empty], counts[empty] = centroids[empty], 1
        totals[empty[: len(moved)]] = ordered[moved]
    means: Array = totals / counts
    return means


def _farthest(ordered: Array, ends: Array, centroids: Array, count: int) -> Array:
    """Places of the `count` values farthest from their centroids, which lie at the ends of the clusters.

    Never takes the last value of a cluster. For thousands of clusters it looks at only some candidates.
    """
    deep = np.arange(min(count, max(1, CANDIDATES // len(centroids))))
    starts, stops = ends[:-1, None], ends[1:, None]
    kept = starts + (stops - starts) // 2
    low, high = starts + deep, stops - 1 - deep
    places = np.concatenate([low[low < kept], high[high > kept]])
    owners = np.searchsorted(ends, places, side="right") - 1
    distances = np.abs(ordered[places] - centroids[owners])
    return places[np.argsort(-distances, kind="stable")[:count]]
