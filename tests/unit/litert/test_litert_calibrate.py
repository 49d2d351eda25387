"""Ranges of activations: the rules that choose them, and what samples they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends.tflite import calibrate
from bench.errors import InvalidInput
from bench.types import QuantSpec

MINMAX = QuantSpec(kind="static")

pytest.importorskip("ai_edge_litert", reason="pip install 'pressbench[litert]'")


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_rule_stays_within_what_was_seen(tflite_cases: Path, method: str) -> None:
    """No rule widens a range; min-max is the range, with 0 in it; the input's own is read off the samples."""
    path = tflite_cases / "pretrainedResnet.tflite"
    samples = [np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)]
    seen = calibrate.ranges(path, calibrate.Fed(arrays=samples), MINMAX)
    found = calibrate.ranges(
        path, calibrate.Fed(arrays=samples), QuantSpec(kind="static", calibration=method, percentile=99.9)
    )
    assert found.keys() == seen.keys()
    assert len(seen) > 10
    assert all(low >= seen[name][0] and high <= seen[name][1] for name, (low, high) in found.items())
    assert seen["input_1"] == (0, samples[0].max())


def test_the_order_and_number_of_samples_do_not_change_min_max(tflite_cases: Path) -> None:
    """Unlike a moving average, min-max forgets nothing."""
    path = tflite_cases / "ad01_fp32.tflite"
    data = np.random.default_rng(0).standard_normal((5, 640), dtype=np.float32)
    forward = calibrate.ranges(path, calibrate.Fed(arrays=[data]), MINMAX)
    backward = calibrate.ranges(path, calibrate.Fed(arrays=[np.concatenate([data, data])[::-1]]), MINMAX)
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
        calibrate.ranges(tflite_cases / "ad01_fp32.tflite", calibrate.Fed(arrays=[samples]), MINMAX)


def test_an_unknown_rule_is_refused_with_the_known_ones(tflite_cases: Path) -> None:
    """A misspelt calibration lists what there is."""
    samples = [np.zeros((1, 640), np.float32)]
    with pytest.raises(InvalidInput, match="entropy"):
        calibrate.ranges(
            tflite_cases / "ad01_fp32.tflite",
            calibrate.Fed(arrays=samples),
            QuantSpec(kind="static", calibration="median"),
        )
