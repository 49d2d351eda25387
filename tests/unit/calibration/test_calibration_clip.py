"""From histograms to ranges: each method against its definition, written out slowly here."""

from __future__ import annotations

import numpy as np
import pytest

from backends.calibration import clip
from backends.calibration.clip import BINS, Histogram
from bench.types import QuantSpec

SYMMETRIC = QuantSpec(kind="static")
ASYMMETRIC = QuantSpec(kind="static", activation_symmetric=False)


def histogram(values: np.ndarray) -> Histogram:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    counts, _ = np.histogram(values, bins=BINS, range=(low, high))
    return Histogram(low=low, high=high, counts=counts.astype(np.float64))


def normal_with_outliers() -> np.ndarray:
    draw = np.random.default_rng(0)
    return np.concatenate([draw.standard_normal(200_000), [60.0, -45.0]])


def quantization_error(values: np.ndarray, low: float, high: float, levels: int) -> float:
    step = (high - low) / levels
    return float(np.mean((values - np.round(np.clip(values, low, high) / step) * step) ** 2))


def slow_divergence(counts: np.ndarray, stop: int, levels: int) -> float:
    """KL(P || Q) bin by bin, as on Migacz's slides."""
    p = [float(value) for value in counts[:stop]]
    p[-1] += float(sum(counts[stop:]))
    q = [0.0] * stop
    for level in range(levels):
        start, end = level * stop // levels, (level + 1) * stop // levels
        occupied = [index for index in range(start, end) if p[index] > 0]
        for index in occupied:
            q[index] = float(sum(counts[start:end])) / len(occupied)

    def smooth(values: list[float]) -> list[float]:
        total = sum(values)
        lifted = [value if value > 0 else 1e-4 * total / len(values) for value in values]
        return [value / sum(lifted) for value in lifted]

    return sum(a * np.log(a / b) for a, b in zip(smooth(p), smooth(q), strict=True))


@pytest.mark.parametrize("stop", [128, 144, 1000, 2048])
def test_the_divergence_equals_the_slow_loop(stop):
    counts = np.random.default_rng(1).poisson(3, BINS).astype(np.float64)
    assert clip._divergence(counts, stop, 128) == pytest.approx(slow_divergence(counts, stop, 128), rel=1e-9)


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
@pytest.mark.parametrize("spec", [SYMMETRIC, ASYMMETRIC])
def test_outliers_are_clipped_and_the_bulk_is_not(method, spec):
    low, high = clip.METHODS[method](histogram(normal_with_outliers()), spec)
    assert -45 < low <= -2
    assert 2 <= high < 60


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_a_range_never_leaves_what_was_seen_and_always_holds_zero(method):
    for values in (np.random.default_rng(2).random(10_000) * 6, -np.random.default_rng(3).random(10_000)):
        seen = histogram(values)
        for spec in (SYMMETRIC, ASYMMETRIC):
            low, high = clip.METHODS[method](seen, spec)
            assert seen.low <= low <= 0 <= high <= seen.high


@pytest.mark.parametrize(("spec", "levels"), [(SYMMETRIC, 254), (ASYMMETRIC, 255)])
def test_mse_beats_minmax_and_every_coarser_shrinking(spec, levels):
    values = normal_with_outliers()
    seen = histogram(values)
    low, high = clip.mse(seen, spec)
    ends = (-max(-low, high), max(-low, high)) if spec.activation_symmetric else (low, high)
    found = quantization_error(values, *ends, levels)
    for share in (1.0, 0.5, 0.25, 0.1):
        tried = (-60 * share, 60 * share) if spec.activation_symmetric else (seen.low * share, seen.high * share)
        assert found <= quantization_error(values, *tried, levels) * 1.001


def test_a_percentile_keeps_that_share_of_the_values():
    values = np.random.default_rng(4).standard_normal(500_000)
    spec = QuantSpec(kind="static", percentile=99.0, activation_symmetric=False)
    low, high = clip.percentile(histogram(values), spec)
    assert np.mean((values >= low) & (values <= high)) == pytest.approx(0.99, abs=1e-3)
    low, high = clip.percentile(histogram(values), QuantSpec(kind="static", percentile=99.0))
    assert np.mean(np.abs(values) <= high) == pytest.approx(0.99, abs=1e-3)


def test_folding_keeps_every_count():
    seen = histogram(normal_with_outliers())
    folded = seen.fold()
    assert folded.counts.sum() == seen.counts.sum()
    assert (folded.low, folded.high) == (0.0, 60.0)


def test_the_zeros_of_a_relu_cost_nothing():
    """Half the values are exactly 0: the middle of their bin must not count as an error."""
    values = np.maximum(np.random.default_rng(5).standard_normal(100_000), 0)
    low, high = clip.mse(histogram(values), ASYMMETRIC)
    assert low == 0
    assert high > 2


def test_the_zeros_of_a_relu_do_not_pull_entropy_down():
    """Zero is exact at every scale: however many there are, the range stays where the other values want it."""
    values = np.random.default_rng(6).standard_normal(100_000)
    dense = clip.entropy(histogram(values), SYMMETRIC)[1]
    sparse = clip.entropy(histogram(np.append(values, np.zeros(400_000))), SYMMETRIC)[1]
    assert sparse == pytest.approx(dense, rel=0.05)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7,), ()])
def test_counting_is_numpys_histogram(shape):
    """Every value of a tensor that is not large falls into its bin."""
    values = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    found = clip.count(values, -8.0, 8.0)
    assert np.array_equal(found, np.histogram(values, bins=BINS, range=(-8, 8))[0])


def test_a_constant_zero_tensor_has_the_range_zero():
    seen = Histogram(low=0.0, high=0.0, counts=np.concatenate([[100.0], np.zeros(BINS - 1)]))
    for method in clip.METHODS:
        assert clip.clip_range(seen, QuantSpec(kind="static", calibration=method)) == (0.0, 0.0)
