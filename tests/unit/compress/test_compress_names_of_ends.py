"""Outputs and inputs may have any names: those of operators, of weights, or the same name twice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.models.factory import build
from bench.types import AskedInput, Model


class Two(nn.Module):
    """Gives what two layers make, as `dress` says."""

    def __init__(self, dress):
        super().__init__()
        self.first, self.second, self.dress = nn.Linear(8, 4), nn.Linear(4, 3), dress

    def forward(self, x: Tensor):
        hidden = torch.relu(self.first(x)) + 1
        return self.dress(hidden, self.second(torch.relu(hidden)))


class NamedAsOperators(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(8, 3), nn.Parameter(torch.rand(3))

    def forward(self, linear: Tensor, relu: Tensor):
        return torch.relu(self.layer(linear) * self.scale) + torch.relu(relu)


DRESSES = {
    "operators": (
        lambda hidden, scores: {"linear": hidden, "relu": scores, "add": hidden * 2},
        ("linear", "relu", "add"),
    ),
    "weights": (
        lambda hidden, scores: {"first.weight": hidden, "second.bias": scores},
        ("first.weight_out", "second.bias_out"),
    ),
    "one name twice": (lambda hidden, scores: {"a": {"b": hidden}, "a_b": scores}, ("a_b", "a_b_1")),
    "one value twice": (
        lambda hidden, scores: {"hidden": hidden, "scores": scores, "again": scores},
        ("hidden", "scores", "again"),
    ),
    "the input": (lambda hidden, scores: {"input": scores, "input_out": hidden}, ("input_out", "input_out_1")),
}


def exported(make, inputs, monkeypatch: pytest.MonkeyPatch, folder: Path):
    """The outputs of torch, and by name those of the exported file."""
    module = ModuleType("named_ends")
    module.make = make
    monkeypatch.setitem(sys.modules, "named_ends", module)
    model = Model(name="m", factory="named_ends:make", input_shape=(8,), inputs=inputs)
    recipe = parse_recipe("r", "")
    found = compress(model, recipe, data=None, cache=folder, seed=0, progress=lambda *_: None)
    session = onnxruntime.InferenceSession(str(found.files["onnx"]), providers=["CPUExecutionProvider"])
    fed = {
        item.name: np.random.default_rng(0).normal(size=(2, *item.shape[1:])).astype("f")
        for item in session.get_inputs()
    }
    with torch.no_grad():
        wanted = build(model, 0)(*map(torch.from_numpy, fed.values()))
    names = [item.name for item in session.get_outputs()]
    return wanted, dict(zip(names, session.run(None, fed), strict=True)), tuple(fed)


@pytest.mark.parametrize(("dress", "names"), DRESSES.values(), ids=DRESSES)
def test_outputs_have_the_names_that_the_network_gives_them(dress, names, monkeypatch, tmp_path):
    wanted, found, _ = exported(lambda: Two(dress), (), monkeypatch, tmp_path)
    assert tuple(found) == names
    for one, other in zip(wanted, found.values(), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-5, atol=1e-6)


def test_inputs_may_have_the_names_of_operators(monkeypatch, tmp_path):
    asked = tuple(AskedInput(name=name, sizes=(None, size)) for name, size in (("linear", 8), ("relu", 3)))
    wanted, found, inputs = exported(NamedAsOperators, asked, monkeypatch, tmp_path)
    assert inputs == ("linear", "relu")
    np.testing.assert_allclose(wanted.numpy(), *found.values(), rtol=1e-5, atol=1e-6)
