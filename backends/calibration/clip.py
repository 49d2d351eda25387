"""Pure: from a histogram of a tensor's values to the range its quantization should cover."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.types import QuantSpec

Counts = NDArray[np.float64]
BINS = 2048
COUNTED_VALUES = 2**16
"""Values of one tensor and sample that are counted: of a larger tensor, every k-th by an odd step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often a value fell into each of the equal bins between `low` <= 0 and `high` >= 0."""

    low: float
    high: float
    counts: Counts

    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin; where 0 is an end of the range, the bin at 0 stands for 0 itself (ReLU)."""
        width = (self.high - self.low) / self.counts.size
        middle = self.low + width * (np.arange(self.counts.size) + 0.5)
        if self.low == 0:
            middle[0] = 0.0
        if self.high == 0:
            middle[-1] = 0.0
        return np.asarray(middle, dtype=np.float64)

    def fold(self) -> Histogram:
        """The histogram of absolute values."""
        limit = max(-self.low, self.high)
        index = np.minimum((np.abs(self.centers()) / limit * BINS).astype(np.int64), BINS - 1)
        return Histogram(low=0.0, high=limit, counts=_count_weighted(index, self.counts))


def count(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.int64]:
    """Values in each of the bins between `low` and `high`, samples first; a constant tensor falls into the first."""
    rows = np.asarray(values, np.float32).reshape(len(values) if values.ndim else 1, -1)
    step = -(-rows.shape[1] // COUNTED_VALUES) | 1
    scale = BINS / (high - low) if high > low else 0.0
    index = ((rows[:, ::step].ravel() - low) * scale).astype(np.int64)
    return np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)


def _count_weighted(index: NDArray[np.int64], weights: Counts) -> Counts:
    return np.asarray(np.bincount(index, weights=weights, minlength=BINS), dtype=np.float64)


def percentile(histogram: Histogram, spec: QuantSpec) -> tuple[float, float]:
    """The middle `spec.percentile` per cent of the values; of the absolute values for symmetric activations."""
    share = spec.percentile / 100
    if spec.activation_symmetric:
        limit = _quantile(histogram.fold(), share)
        return max(histogram.low, -limit), min(histogram.high, limit)
    low, high = _quantile(histogram, (1 - share) / 2), _quantile(histogram, (1 + share) / 2)
    return min(low, 0.0), max(high, 0.0)


def _quantile(histogram: Histogram, share: float) -> float:
    reached = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.counts.sum()])
    edges = np.linspace(histogram.low, histogram.high, histogram.counts.size + 1)
    return float(np.interp(share, reached, edges))


def entropy(histogram: Histogram, spec: QuantSpec) -> tuple[float, float]:
    """The limit of |x| whose 128-level image has the least Kullback-Leibler divergence from the values.

    Migacz 2017, "8-bit Inference with TensorRT", over 2048 bins of |x|, the first (ReLU's zeros) left out.
    """
    del spec
    folded = histogram.fold()
    counts = folded.counts.copy()
    counts[0] = counts[1]
    stops = range(128, BINS + 1, 16)
    divergences = [_divergence(counts, stop, 128) for stop in stops]
    limit = folded.high * stops[int(np.argmin(divergences))] / BINS
    return max(histogram.low, -limit), min(histogram.high, limit)


def _divergence(counts: Counts, stop: int, levels: int) -> float:
    """KL(P || Q): P the first `stop` bins with the rest added to the last, Q those bins merged into `levels`."""
    kept = counts[:stop]
    wanted = kept.copy()
    wanted[-1] += counts[stop:].sum()
    starts = np.arange(levels) * stop // levels
    sizes = np.diff(np.append(starts, stop))
    occupied = np.add.reduceat((wanted > 0).astype(np.float64), starts)
    merged = np.add.reduceat(kept, starts) / np.maximum(occupied, 1)
    image = np.repeat(merged, sizes) * (wanted > 0)
    p, q = _smooth(wanted), _smooth(image)
    return float(np.sum(p * np.log(p / q)))


def _smooth(counts: Counts, share: float = 1e-4) -> Counts:
    """A distribution without zeros: each empty bin gets `share` of a mean bin (Laplace smoothing)."""
    total = counts.sum()
    if total == 0:
        return np.full(counts.size, 1.0 / counts.size)
    lifted = np.where(counts > 0, counts, share * total / counts.size)
    return np.asarray(lifted / lifted.sum(), dtype=np.float64)


def mse(histogram: Histogram, spec: QuantSpec) -> tuple[float, float]:
    """The range whose quantization has the least mean squared error over the histogram.

    Both ends shrink in turn over 64 steps down to 5 % of the range (Banner et al. 2019, arXiv:1810.05723,
    searched instead of solved).
    """
    levels = 2**spec.activation_bits - 1
    shares = np.linspace(1.0, 0.05, 64)
    if spec.activation_symmetric:
        limits = max(-histogram.low, histogram.high) * shares
        limit = float(limits[np.argmin(_squared_error(histogram, -limits, limits, levels - 1))])
        return max(histogram.low, -limit), min(histogram.high, limit)
    low, high = histogram.low, histogram.high
    for _ in range(2):
        highs = histogram.high * shares
        high = float(highs[np.argmin(_squared_error(histogram, np.full(64, low), highs, levels))])
        lows = histogram.low * shares
        low = float(lows[np.argmin(_squared_error(histogram, lows, np.full(64, high), levels))])
    return low, high


def _squared_error(
    histogram: Histogram, lows: NDArray[np.float64], highs: NDArray[np.float64], levels: int
) -> NDArray[np.float64]:
    """Sum of count * (x - quantized x)^2 for each candidate range."""
    values = histogram.centers()[None, :]
    step = np.maximum(highs - lows, np.finfo(np.float64).tiny)[:, None] / levels
    clipped = np.clip(values, lows[:, None], highs[:, None])
    return np.asarray(((values - np.round(clipped / step) * step) ** 2) @ histogram.counts)


def clip_range(histogram: Histogram, spec: QuantSpec) -> tuple[float, float]:
    """The range by `spec.calibration`; a tensor that is always 0 keeps the range 0."""
    if histogram.low == histogram.high:
        return histogram.low, histogram.high
    return METHODS[spec.calibration](histogram, spec)


METHODS: Mapping[str, Callable[[Histogram, QuantSpec], tuple[float, float]]] = {
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
