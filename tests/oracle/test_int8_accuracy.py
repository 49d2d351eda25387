"""Int8 on the deployed file against float32 on the same images: the accuracy that users buy the speed with."""

from __future__ import annotations

from functools import cache as once
from pathlib import Path

import numpy as np
import pytest

from backends.ort.compile import OrtBackend
from backends.ort.session import OrtSession
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.data.datasets import Dataset, load_data
from bench.models.registry import resolve
from bench.models.training.predict import accuracy
from bench.types import Conditions

MODELS = ("lenet5", "resnet8")
BATCH = 50


@once
def digits() -> Dataset:
    return load_data("digits")


def deployed_accuracy(model: str, recipe: str, cache: Path, out: Path) -> float:
    """Accuracy on the 450 test images of the file ONNX Runtime runs."""
    data = digits()
    made = compress(
        resolve(model, data),
        parse_recipe("r", recipe),
        data=data,
        cache=cache,
        seed=0,
        progress=lambda what, fraction: None,
    )
    out.mkdir()
    artifact = OrtBackend().compile(made, Conditions(batch=BATCH), {}, out)
    session = OrtSession.open(artifact.path, threads=1, batch=BATCH, options={}, precision=artifact.precision)
    parts = np.split(data.test.x[0], len(data.test.x[0]) // BATCH)
    return accuracy(np.concatenate([session.run({"input": part})[0] for part in parts]), data.test.y)


@pytest.mark.parametrize("model", MODELS)
def test_static_and_trained_int8_stay_within_half_a_point_of_float32(model: str, cache: Path, tmp_path: Path):
    whole = deployed_accuracy(model, "", cache, tmp_path / "float32")
    assert whole > 0.96
    static = deployed_accuracy(model, "int8", cache, tmp_path / "int8")
    assert static >= whole - 0.005
    trained = deployed_accuracy(model, "qat", cache, tmp_path / "qat")
    assert trained >= min(static, whole) - 0.0025, "worse by more than one of the 450 images"


@pytest.mark.parametrize("calibration", ["entropy", "percentile", "mse"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_calibration_stays_within_half_a_point(calibration: str, symmetric: bool, cache: Path, tmp_path: Path):
    whole = deployed_accuracy("lenet5", "", cache, tmp_path / "float32")
    recipe = f"int8(calibration={calibration!r}, symmetric={symmetric}, per_channel={symmetric})"
    assert deployed_accuracy("lenet5", recipe, cache, tmp_path / "int8") >= whole - 0.005
