"""Every registered step that trains or looks at scores does so for every built-in task."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from task_networks import KINDS
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.recipe import parse_recipe
from bench.data.datasets import load_data
from bench.models.tensors import as_tensors
from bench.plugins import available, load
from bench.tasks.builtin import BUILT_IN
from bench.tasks.own import find_task

STEPS = {
    "binary": "binary(epochs=1, alpha=0.5)",
    "distill": "distill(epochs=1)",
    "finetune": "finetune(epochs=1)",
    "fixed_qat": "fixed_qat(epochs=1, alpha=0.5)",
    "iterative": "iterative(to=0.5, steps=2, criterion='hessian')",
    "mixed_fixed": "mixed_fixed(max_drop_pp=90.0)",
    "mixed_int8": "mixed_int8(max_drop_pp=90.0)",
    "qat": "qat(epochs=1, alpha=0.5)",
    "regularize": "regularize(epochs=1)",
    "sensitivity": "sensitivity(max_drop_pp=90.0, criterion='taylor')",
    "ternary": "ternary(epochs=1)",
}
"""A recipe of one step each."""
JUDGING = [name for name in available("compressor") if load("compressor", name).trains] + [
    "mixed_fixed",
    "mixed_int8",
    "sensitivity",
]


def context_of(task: str, kind: str, folder: Path) -> tuple[nn.Module, Context]:
    network, make, _ = KINDS[kind]
    torch.manual_seed(0)
    module, data = network().eval(), load_data(make(folder), task=find_task(task))
    example = as_tensors(data.train.inputs(slice(0, 2)))
    return module, Context(
        teacher=copy.deepcopy(module), data=data, example=example, seed=0, cache=folder, progress=lambda *_: None
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JUDGING)
def test_a_step_takes_every_task(tmp_path, name, kind):
    module, context = context_of(kind, kind, tmp_path)
    (step,) = parse_recipe("r", STEPS[name]).steps
    found = step.apply(Network(module=module), context)
    with torch.no_grad():
        outputs = found.module.eval()(*context.example)
    assert outputs.shape == module(*context.example).shape
    assert torch.isfinite(outputs).all()
    assert (found.quant is not None) == step.quantizes
    assert BUILT_IN[kind].score(outputs, torch.from_numpy(context.data.train.targets(slice(0, 2)))) >= 0


@pytest.mark.parametrize("task", ["task_networks:Huber", "task_networks:Stepping"])
def test_training_by_a_users_task_lowers_its_loss(tmp_path, task):
    module, context = context_of(task, "regression", tmp_path)
    every = slice(None)
    x, y = torch.from_numpy(context.data.train.inputs(every)[0]), torch.from_numpy(context.data.train.targets(every))
    (step,) = parse_recipe("r", "finetune(epochs=60, learning_rate=0.01)").steps
    found = step.apply(Network(module=module), context)
    with torch.no_grad():
        before, after = (context.data.task.score(net(x), y) for net in (module, found.module))
    assert after < 0.9 * before
