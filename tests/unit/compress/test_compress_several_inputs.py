"""Networks with several inputs, token ids, masks and named outputs take the steps, and the file is the network."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import several_inputs
import torch
from torch import nn

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput
from bench.inputs.draw import draw_inputs
from bench.inputs.options import parse_inputs
from bench.models.factory import build
from bench.models.training.predict import predict_all
from bench.types import Compressed, Model

IDS = ("input_ids=N,12:int64", "attention_mask=N,12:int64")
NETWORKS = {
    "encoder": IDS,
    "recurrent": ("x=N,5,6",),
    "regression": ("x=N,8",),
    "scaled": ("scale=", "x=N,8"),
}
ENCODER = pytest.param("encoder", marks=pytest.mark.slow)
"""In a matrix of steps; the others are in it quickly."""


def model(name: str, *inputs: str) -> Model:
    text = f"several_inputs:{name}"
    return Model(name=text, factory=text, inputs=parse_inputs(inputs or NETWORKS[name]))


def made(name: str, recipe: str, cache: Path) -> Compressed:
    steps = parse_recipe("r", recipe)
    return compress(model(name), steps, data=None, cache=cache, seed=0, progress=lambda _what, _done: None)


def answers(source: Compressed, samples: int = 3) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Drawn inputs, and what ONNX Runtime makes of them: output name -> array."""
    arrays = draw_inputs(source.inputs, samples, 1)
    session = onnxruntime.InferenceSession(str(source.files["onnx"]), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    feed = {
        spec.name: array if spec.axis is not None else np.asarray(array[0])
        for spec, array in zip(source.inputs, arrays, strict=True)
    }
    return arrays, dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("name", ["encoder", "recurrent", "regression"])
def test_the_file_gives_what_the_network_gives_by_the_same_names(name, cache):
    arrays, found = answers(made(name, "", cache))
    wanted = predict_all(build(model(name), 0), arrays)
    assert list(found) == list(wanted)
    for output, rows in wanted.items():
        np.testing.assert_allclose(found[output], rows, rtol=1e-4, atol=1e-5)


def test_inputs_keep_names_types_and_the_numbers_they_take(cache):
    ids, mask = made("encoder", "", cache).inputs
    assert (ids.name, ids.shape, ids.dtype, ids.integers) == ("input_ids", (-1, 12), "int64", (0, 49))
    assert (mask.name, mask.shape, mask.dtype, mask.is_mask) == ("attention_mask", (-1, 12), "int64", True)


@pytest.mark.parametrize("name", [ENCODER, "recurrent", "regression"])
@pytest.mark.parametrize(
    "recipe",
    [
        "prune(amount=0.5)",
        "neurons(amount=0.25, round_to=1)",
        "lowrank(rank_ratio=0.5)",
        "share(bits=3)",
        "dynamic_int8()",
    ],
)
def test_steps_that_need_no_data_change_the_network_and_its_file_runs(name, recipe, cache):
    done = made(name, recipe, cache)
    _, found = answers(done)
    _, before = answers(made(name, "", cache))
    assert [(key, rows.shape) for key, rows in found.items()] == [(key, rows.shape) for key, rows in before.items()]
    changed = any(not np.array_equal(found[key], before[key]) for key in before)
    assert changed == ("int8" not in recipe)


def test_a_keyword_a_scalar_and_a_dataclass(cache):
    done = made("scaled", "", cache)
    assert [(spec.name, spec.shape, spec.axis) for spec in done.inputs] == [("scale", (), None), ("x", (-1, 8), 0)]
    arrays, found = answers(done)
    network = several_inputs.Scaled()
    network.load_state_dict(build(model("scaled"), 0).state_dict())
    wanted = network(torch.from_numpy(arrays[1]), scale=torch.tensor(arrays[0][0])).value
    np.testing.assert_allclose(found["value"], wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "inputs", "says"),
    [
        (
            "encoder",
            ("input_ids=N,12:int64",),
            "and attention_mask is not given: give --input attention_mask=N,<sizes>",
        ),
        ("encoder", ("input_idz=N,12:int64", IDS[1]), "did you mean 'input_ids'"),
        ("encoder", ("input_ids=N,12", IDS[1]), r"whole numbers: give their type, as --input input_ids=N,12:int64"),
        ("regression", ("x=N,9",), r"does not take inputs of --input x=N,9: "),
    ],
)
def test_what_does_not_fit_is_said_with_the_option_that_does(name, inputs, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        build(model(name, *inputs), 0)
    assert "site-packages" not in str(caught.value)
    assert "fix it there" not in str(caught.value)


class Keyword(nn.Module):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


def test_an_input_by_keyword_only_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.import_module("several_inputs"), "scaled", Keyword)
    with pytest.raises(InvalidInput, match=r"takes scale by keyword only.*take the \* out of forward"):
        build(model("scaled", "x=N,8", "scale="), 0)


class Odd(nn.Module):
    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: torch.Tensor) -> object:
        return {"x": x, "odd": self.what}


@pytest.mark.parametrize(
    ("what", "says"),
    [("text", "returns str in odd; return tensors"), (torch.zeros(()), "output 'odd' has shape .* the samples first")],
)
def test_outputs_that_are_not_rows_of_tensors_are_refused(monkeypatch, what, says):
    monkeypatch.setattr(importlib.import_module("several_inputs"), "scaled", lambda: Odd(what))
    with pytest.raises(InvalidInput, match=says):
        build(Model(name="n", factory="several_inputs:scaled", input_shape=(8,)), 0)


@pytest.mark.parametrize("name", [ENCODER, "recurrent"])
@pytest.mark.parametrize(
    "recipe", ["threshold(value=1e-12)", "prune(amount=0.5)", "lowrank(rank_ratio=0.5)", "share(bits=3)"]
)
def test_a_file_of_several_inputs_takes_the_steps_too(name, recipe, cache):
    file = made(name, "", cache).files["onnx"]
    brought = Model(name=file.name, file=file)
    steps = parse_recipe("r", recipe)
    done = compress(brought, steps, data=None, cache=cache, seed=0, progress=lambda _what, _done: None)
    assert [(spec.name, spec.dtype) for spec in done.inputs] == [
        (spec.name, spec.dtype) for spec in made(name, "", cache).inputs
    ]
    _, found = answers(done)
    _, before = answers(made(name, "", cache))
    assert list(found) == list(before)
    near = all(np.allclose(found[key], before[key], rtol=1e-4, atol=1e-5) for key in before)
    assert near == recipe.startswith("threshold")
