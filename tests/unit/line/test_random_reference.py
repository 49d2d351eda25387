"""A torch network that draws random numbers where its file draws none: the reason says so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.device.outputs import Output
from bench.line.judged.assess import assess
from bench.line.judged.baseline import find_baseline_error
from bench.line.judged.distance import find_far
from bench.line.judged.evaluation import Evaluation, predict_reference
from bench.types import Model

X = np.random.default_rng(0).random((40, 8)).astype(np.float32)


class Dropping(nn.Module):
    def __init__(self, *, always: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.always = nn.Linear(8, 3), always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(F.dropout(x, training=self.always or self.training))


def predicted(module: nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setattr("bench.line.judged.evaluation.reference", lambda *_, **__: module.eval())
    found = predict_reference(Model(name="m"), (X,), data=None, cache=folder, seed=0, progress=lambda *_: None)
    assert found is not None
    return found[0]


def test_a_dropout_that_stays_on_is_named_with_the_remedy(tmp_path, monkeypatch):
    reference = predicted(Dropping(always=True), tmp_path, monkeypatch)
    assert reference.again is not None
    file = (Output(name="y", rows=Dropping(always=False).eval()(torch.from_numpy(X)).detach().numpy()),)
    evaluation = Evaluation(inputs=(X,), targets=None, parts=(("drawn", 40),), reference=(reference,))
    quality = assess(file, evaluation)
    said = r": the network draws random numbers, .* its file draws none; .* F\.dropout\(x, training=self\.training\)"
    assert re.search("differs from the reference by up to .*" + said, find_baseline_error(quality, evaluation))
    (far,) = find_far(quality.outputs, [reference])
    assert re.search("of its own spread away from the uncompressed network's" + said, far)


def test_an_output_that_does_not_draw_is_not_explained_by_another_that_does(tmp_path, monkeypatch):
    """Both are kept of two runs; that the file is wrong was blamed on random numbers."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calm, self.random = Dropping(always=False), Dropping(always=True)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.calm(x), self.random(x)

    monkeypatch.setattr("bench.line.judged.evaluation.reference", lambda *_, **__: Both().eval())
    references = predict_reference(Model(name="m"), (X,), data=None, cache=tmp_path, seed=0, progress=lambda *_: None)
    assert references is not None
    calm, random = references
    assert calm.again is not None
    evaluation = Evaluation(inputs=(X,), targets=None, parts=(("drawn", 40),), reference=references)
    wrong = assess((replace(calm, rows=-calm.rows, again=None), random), evaluation)
    assert re.search("differs from the reference by up to [0-9.]+$", find_baseline_error(wrong, evaluation))
    (far,) = find_far(wrong.outputs, references)
    assert far.endswith("away from the uncompressed network's")


def test_a_network_without_random_numbers_runs_once(tmp_path, monkeypatch):
    assert predicted(Dropping(always=False), tmp_path, monkeypatch).again is None
