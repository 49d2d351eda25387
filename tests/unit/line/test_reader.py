"""A user's file that only one backend of a run computes is read by its format's own runtime too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.device.outputs import Output
from bench.device.stored import open_stored
from bench.errors import DiskFull, Unavailable
from bench.line import reader
from bench.types import Conditions

OUTPUTS = (Output(name="y", rows=np.zeros((64, 2))),)


@dataclass(frozen=True)
class Bench:
    evaluate: Path | None = None


@dataclass(frozen=True)
class Prepared:
    bench: Bench | None = field(default_factory=Bench)
    artifact: str = "made by ort"
    evaluation: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(inputs=(np.ones((100, 3)),)))


def read(
    tmp_path, patch, file="net.onnx", backend="openvino", reach="local", failing=None, prepared=Prepared(), **sizes
):
    """What is found, and the names of the backends that were asked. `sizes`: the batch, and the rows that are to be read."""
    asked: list[str] = []

    def prepare(model, recipe, choice, conditions, setting):
        asked.append(choice.name)
        if failing:
            raise failing
        return Prepared()

    def infer(bench, artifact):
        assert (artifact, open_stored(bench.evaluate)["0"].shape) == ("made by ort", (sizes.get("rows", 64), 3))
        return OUTPUTS

    patch.setattr(reader, "prepare", prepare)
    cell = SimpleNamespace(
        model=SimpleNamespace(file=Path(file) if file else None),
        backend=SimpleNamespace(name=backend),
        recipe=None,
        conditions=Conditions(batch=sizes.get("batch", 1)),
        key="k",
    )
    setting = SimpleNamespace(
        target=SimpleNamespace(reach=reach),
        folder=tmp_path,
        progress=lambda *_: None,
        stages=SimpleNamespace(infer=infer),
    )
    return reader.read_again(cell, prepared, setting), asked


def test_a_file_of_onnx_is_read_by_onnx_runtime_on_the_first_samples(tmp_path, monkeypatch):
    assert read(tmp_path, monkeypatch) == ({"ort": OUTPUTS}, ["ort"])


@pytest.mark.parametrize(("batch", "rows"), [(32, 64), (48, 96), (128, 100)])
def test_the_last_batch_is_filled_with_the_samples_of_the_cell(tmp_path, monkeypatch, batch, rows):
    """One that is filled up with its last sample has other outputs where a network computes over the batch."""
    assert read(tmp_path, monkeypatch, batch=batch, rows=rows) == ({"ort": OUTPUTS}, ["ort"])


@pytest.mark.parametrize(
    "given",
    [
        {"file": ""},
        {"backend": "ort"},
        {"backend": "litert"},
        {"backend": "litert", "file": "net.tflite"},
        {"reach": "ssh"},
        {"prepared": replace(Prepared(), bench=None)},
    ],
)
def test_nothing_is_read_where_it_was_or_where_another_machine_measures(tmp_path, monkeypatch, given):
    assert read(tmp_path, monkeypatch, **given) == ({}, [])


def test_a_runtime_that_is_away_or_refuses_the_file_says_nothing_about_it(tmp_path, monkeypatch):
    assert read(tmp_path, monkeypatch, failing=Unavailable("no onnxruntime")) == ({}, ["ort"])
    with pytest.raises(DiskFull):
        read(tmp_path, monkeypatch, failing=DiskFull("full"))
