"""A test set larger than what may be held is judged piece by piece, and as if it were held whole."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.data.datasets import load_data
from bench.data.parts import ArrayPart
from bench.device import stored
from bench.device.job import Job
from bench.device.outputs import infer_all, read_outputs, write_outputs
from bench.line.judged.assess import assess
from bench.line.judged.evaluation import make_evaluation, predict_reference
from bench.models.training.fit import Schedule, fit
from bench.types import Model, TensorSpec

COUNT, SIDE = 2000, 32
SET_BYTES = COUNT // 2 * 3 * SIDE * SIDE * 4
"""The test set as floats: 12 MB, and 74 MB with its five corruptions."""
BOUND = 6 * 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        part, label = ("train", "test")[number % 2], number // 2 % 2
        file = place / part / f"class{label}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 128 + 100 * label, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, compress_level=0)
    return place


class Session:
    """Sums every channel, in a runtime of its own."""

    def inputs(self):
        return (TensorSpec(name="x", shape=(10, 3, SIDE, SIDE)),)

    def outputs(self):
        return ("scores",)

    def run(self, feed):
        return (feed["x"].sum(axis=(2, 3))[:, :2],)


class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.sum(dim=(2, 3))[:, :2] * self.factor


def judge(data, folder: Path, monkeypatch, limit=0):
    monkeypatch.setattr("bench.line.judged.evaluation.reference", lambda *_, **__: Sums())
    found = make_evaluation(data, None, shifts=True, seed=0, limit=limit, folder=folder)
    job = Job(task="measure", session="", subjects=(), batch=10, evaluate=str(found.inputs[0].file))
    outputs, samples = infer_all(job, Session())
    write_outputs(outputs, folder / "outputs.npz")
    asked = {"data": data, "cache": folder, "seed": 0, "progress": lambda *_: None}
    reference = predict_reference(Model(name="m"), found.clean_inputs, **asked)
    assert samples == 6 * (limit or len(data.test))
    return read_outputs(folder / "outputs.npz"), reference, found


def test_no_step_of_judging_or_training_holds_the_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "IN_MEMORY", 2**20)
    monkeypatch.setattr(stored, "PIECE_BYTES", 2**19)
    data = load_data(str(folder))
    schedule = Schedule(epochs=1, learning_rate=0.01)
    few = slice(0, 64)
    small = ArrayPart(data.train.inputs(few), data.train.targets(few))
    fit(Sums(), replace(data, train=small), schedule, seed=0, progress=lambda *_: None)  # imports what torch needs
    tracemalloc.start()
    try:
        outputs, reference, found = judge(data, tmp_path, monkeypatch)
        quality = assess(outputs, found)
        fit(Sums(), data, schedule, seed=0, progress=lambda *_: None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.inputs[0].nbytes == 6 * SET_BYTES
    assert most < BOUND < SET_BYTES
    assert (quality.samples, len(quality.shifted), reference[0].rows.shape) == (6000, 5, (1000, 2))


def test_pieces_give_the_figures_of_the_whole(folder, tmp_path, monkeypatch):
    figures = []
    for held in (2**30, 2**12):
        monkeypatch.setattr(stored, "IN_MEMORY", held)
        monkeypatch.setattr(stored, "PIECE_BYTES", held)
        place = tmp_path / str(held)
        place.mkdir()
        outputs, reference, found = judge(load_data(str(folder)), place, monkeypatch, limit=100)
        kept = (outputs[0].rows, reference[0].rows, found.inputs[0][:])
        figures.append((assess(outputs, found), [array.tobytes() for array in kept]))
        assert isinstance(outputs[0].rows, np.memmap) == (held < 2**20)
    assert figures[0] == figures[1]
