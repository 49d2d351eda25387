"""An .onnx or a .pt2 file as teacher and as student, and a student of a network of several inputs or outputs."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_networks import Answers, Tokens, write_answers, write_words
from scipy.special import softmax
from small_network import context_of, run, settled
from torch import nn

from bench.compress.interface import Context, Network
from bench.data.datasets import load_data
from bench.errors import InvalidInput, Unsupported
from bench.models.calls import flatten_outputs, name_inputs
from bench.models.tensors import as_tensors
from bench.tasks.own import find_task

BATCH = {0: torch.export.Dim("batch")}


@pytest.fixture
def context(tmp_path):
    return context_of(settled(), tmp_path / "cache")


@pytest.fixture(params=["pt2", "onnx"])
def file(request, tmp_path):
    """A file of a network of other weights than the context's teacher."""
    torch.manual_seed(1)
    network, path = settled(), tmp_path / f"other.{request.param}"
    nn.init.normal_(network.fc2.weight)
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=(BATCH,))
    if request.param == "pt2":
        torch.export.save(program, path)
    else:
        torch.onnx.export(program, (), str(path), dynamo=True, verbose=False, external_data=False)
    return path, network


def answers(module: nn.Module, context: Context) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(*context.example).numpy()


def test_a_file_teaches(file, context):
    path, network = file
    start = Network(module=copy.deepcopy(context.teacher))
    found = run(f"distill(epochs=30, alpha=0.0, learning_rate=0.01, teacher={str(path)!r})", start, context)
    wanted = softmax(answers(network, context), axis=1)
    before, after = (
        np.abs(softmax(answers(one, context), axis=1) - wanted).mean() for one in (context.teacher, found.module)
    )
    assert after < 0.3 * before


def test_a_file_is_a_student_with_its_own_weights(file, context):
    path, network = file
    found = run(f"student(model={str(path)!r})", Network(module=context.teacher), context)
    np.testing.assert_allclose(answers(found.module, context), answers(network, context), atol=1e-4)


def test_a_file_that_cannot_teach_is_refused(file, context, tmp_path):
    start = Network(module=context.teacher)
    with pytest.raises(InvalidInput, match=r"none\.onnx does not exist"):
        run("distill(teacher='none.onnx')", start, context)
    (tmp_path / "some.tflite").write_bytes(b"")
    with pytest.raises(Unsupported, match=r"some.tflite cannot train or teach"):
        run(f"distill(teacher={str(tmp_path / 'some.tflite')!r})", start, context)
    other = replace(context.data, train=replace(context.data.train, x=(np.zeros((128, 3), np.float32),)))
    with pytest.raises(Unsupported, match=r"data set quarters: the model takes float32 \(1, 8, 8\)"):
        run(f"distill(teacher={str(file[0])!r})", start, replace(context, data=other))


def context_for(network: nn.Module, data, folder) -> Context:
    example = as_tensors(data.train.inputs(slice(0, 2)))
    return Context(teacher=network, data=data, example=example, seed=0, cache=folder, progress=lambda *_: None)


def test_a_student_has_the_inputs_of_the_network_with_and_without_a_data_set(tmp_path):
    network, data = Tokens().eval(), load_data(write_words(tmp_path))
    name_inputs(network, data.input_names)
    context = context_for(network, data, tmp_path)
    for one in (context, replace(context, data=None)):
        found = run("student(model='own_networks:tokens')", Network(module=network), one)
        assert answers(found.module, one).shape == (2, 3)


def test_a_student_may_have_several_outputs(tmp_path):
    data = load_data(write_answers(tmp_path), task=find_task("own_networks:Both"))
    network = Answers().eval()
    flatten_outputs(network, network(torch.zeros(2, 6)), "answers")
    context = context_for(network, data, tmp_path)
    found = run("student(model='own_networks:answers') + distill(epochs=1)", Network(module=network), context)
    assert [tuple(one.shape) for one in found.module.eval()(*context.example)] == [(2, 3), (2, 1)]
