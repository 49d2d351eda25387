"""Ranges of activations: the rules that choose them, and what samples they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends.tflite import calibrate
from bench.errors import InvalidInput

pytest.importorskip("ai_edge_litert", reason="pip install 'pressbench[litert]'")

TOP = 8.0


def histogram(values: np.ndarray) -> np.ndarray:
    return np.histogram(np.abs(values), bins=calibrate.BINS, range=(0.0, TOP))[0].astype(np.float64)


def with_outlier(count: int = 100_000) -> np.ndarray:
    """A normal distribution and one value far off."""
    return np.append(np.random.default_rng(0).standard_normal(count), TOP)


def quantization_error(values: np.ndarray, threshold: float) -> float:
    step = threshold / (calibrate.LEVELS - 1)
    return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean())


def test_percentile_leaves_out_exactly_the_share_asked() -> None:
    """Of all |x|, 99 % lie at or below the threshold and no bin less would do."""
    values = with_outlier()
    found = calibrate._percentile(histogram(values), TOP, 99.0)
    assert np.mean(np.abs(values) <= found) >= 0.99
    assert np.mean(np.abs(values) <= found - TOP / calibrate.BINS) < 0.99


def test_the_hundredth_percentile_is_the_maximum() -> None:
    """Nothing is clipped at 100 %."""
    assert calibrate._percentile(histogram(with_outlier()), TOP, 100.0) == pytest.approx(TOP)


def test_mse_is_no_worse_than_any_other_threshold() -> None:
    """Its threshold's true error, by quantizing the values, is within 2 % of the best of a fine search."""
    values = with_outlier()
    found = calibrate._mse(histogram(values), TOP)
    best = min(quantization_error(values, threshold) for threshold in np.linspace(0.5, TOP, 200))
    assert quantization_error(values, found) <= 1.02 * best


def test_entropy_clips_an_outlier_and_keeps_a_uniform_range() -> None:
    """Information lies where the values are: one stray value is cut off, a full range is not."""
    assert calibrate._entropy(histogram(with_outlier()), TOP) < 0.8 * TOP
    uniform = np.random.default_rng(0).uniform(-TOP, TOP, 100_000)
    assert calibrate._entropy(histogram(uniform), TOP) > 0.9 * TOP


def test_zeros_of_a_relu_do_not_pull_entropy_down() -> None:
    """Zero is exact at every scale: however many there are, the threshold stays where the other values want it."""
    values = np.random.default_rng(0).standard_normal(100_000)
    dense = calibrate._entropy(histogram(values), TOP)
    sparse = calibrate._entropy(histogram(np.append(values, np.zeros(400_000))), TOP)
    assert sparse == pytest.approx(dense, rel=0.05)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_rule_stays_within_what_was_seen(tflite_cases: Path, method: str) -> None:
    """No rule widens a range; min-max is the range; the input's own is read off the samples."""
    path = tflite_cases / "pretrainedResnet.tflite"
    samples = [np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)]
    seen = calibrate.ranges(path, samples, 1, "minmax", 99.9)
    found = calibrate.ranges(path, samples, 1, method, 99.9)
    assert found.keys() == seen.keys()
    assert len(seen) > 10
    assert all(low >= seen[name][0] and high <= seen[name][1] for name, (low, high) in found.items())
    assert seen["input_1"] == (samples[0].min(), samples[0].max())


def test_the_order_and_number_of_samples_do_not_change_min_max(tflite_cases: Path) -> None:
    """Unlike a moving average, min-max forgets nothing."""
    path = tflite_cases / "ad01_fp32.tflite"
    data = np.random.default_rng(0).standard_normal((5, 640), dtype=np.float32)
    forward = calibrate.ranges(path, [data], 1, "minmax", 0)
    backward = calibrate.ranges(path, [np.concatenate([data, data])[::-1]], 1, "minmax", 0)
    assert forward == backward


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((0, 640), np.float32), "no sample"),
        (np.zeros((2, 64), np.float32), "640"),
        (np.full((1, 640), np.nan, np.float32), "not finite"),
    ],
)
def test_useless_samples_are_refused(tflite_cases: Path, samples: np.ndarray, said: str) -> None:
    """Nothing is calibrated on nothing, on the wrong shape, or on NaN."""
    with pytest.raises(InvalidInput, match=said):
        calibrate.ranges(tflite_cases / "ad01_fp32.tflite", [samples], 1, "minmax", 0)


def test_an_unknown_rule_is_refused_with_the_known_ones(tflite_cases: Path) -> None:
    """A misspelt calibration lists what there is."""
    samples = [np.zeros((1, 640), np.float32)]
    with pytest.raises(InvalidInput, match="entropy"):
        calibrate.ranges(tflite_cases / "ad01_fp32.tflite", samples, 1, "median", 0)
