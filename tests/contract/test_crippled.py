"""A network crippled on purpose keeps its bad accuracy through every step that does not train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ort_nets import compressed, opened
from small_network import MODEL, Branched, context_of, run, small_data, train_small
from test_compressors import EXAMPLES
from torch import nn

from backends.ort.compile import OrtBackend
from bench.compress.export import export
from bench.compress.interface import Network, Quantizer
from bench.compress.layers import NORMS
from bench.compress.pipeline import apply_steps
from bench.compress.recipe import describe, fit_widths, parse_recipe
from bench.device.stored import write_npz
from bench.models.training.predict import accuracy, predict
from bench.models.training.trained_networks import train_or_load
from bench.types import Conditions

CHANCE = 0.25
REPLACES = {"student"}
"""Steps that put another network in the place of the user's."""
FROZEN = sorted({row.name for row in describe() if not row.trains} - REPLACES)


def crippled() -> nn.Module:
    """What a user's function makes: it learned its task, and then its answers were turned by one class."""
    torch.manual_seed(0)
    module = Branched()
    train_small(module, epochs=30)
    with torch.no_grad():
        for value in (module.fc2.weight, module.fc2.bias):
            value.copy_(value.roll(1, 0))
    return module.eval()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    model = replace(MODEL, name="test_crippled:crippled", factory="test_crippled:crippled")
    cache: Path = tmp_path_factory.mktemp("cache")
    return train_or_load(model, small_data(), cache=cache, seed=0, progress=lambda what, done: None)


def score(module: nn.Module) -> float:
    data = small_data()
    return accuracy(predict(module, data.test.x), data.test.y)


def statistics(module: nn.Module) -> set[tuple[float, float]]:
    """Mean and variance of every channel of every BatchNorm."""
    norms = [layer for layer in module.modules() if isinstance(layer, NORMS)]
    pairs = [zip(norm.running_mean.tolist(), norm.running_var.tolist(), strict=True) for norm in norms]
    return {pair for several in pairs for pair in several}


def test_the_crippled_network_is_wrong_about_everything_it_learned(network: nn.Module):
    assert score(network) == 0.0
    healed = crippled()
    with torch.no_grad():
        for value in (healed.fc2.weight, healed.fc2.bias):
            value.copy_(value.roll(-1, 0))
    assert score(healed) == 1.0


@pytest.mark.parametrize("name", FROZEN)
def test_no_step_without_training_makes_it_better_or_touches_its_statistics(name: str, network: nn.Module, tmp_path):
    context = replace(context_of(network, tmp_path), calibration=(small_data().train.x[0][:16],))
    recipe = fit_widths(parse_recipe("r", EXAMPLES[name]), 8)
    after = apply_steps(Network(module=network), recipe.steps, context, "crippled", {})
    assert score(after.module) <= score(network) + CHANCE
    assert statistics(after.module) <= statistics(network)


RUNTIME_NAMES = {name for name in FROZEN if isinstance(parse_recipe("r", EXAMPLES[name]).steps[0], Quantizer)}
"""Steps that only say what the runtime quantizes."""


@pytest.mark.parametrize("name", sorted(RUNTIME_NAMES - {"bfloat16", "fixed"}))  # ONNX Runtime has neither
def test_no_quantization_by_the_runtime_makes_it_better(name: str, network: nn.Module, tmp_path: Path):
    data, source = small_data(), tmp_path / "net.onnx"
    source.write_bytes(export(network, context_of(network, tmp_path).example).onnx)
    write_npz(tmp_path / "calibration.npz", {"input": data.train.x[0][:16]})
    spec = run(EXAMPLES[name], Network(module=network), context_of(network, tmp_path)).quant
    assert spec is not None
    ready = compressed(source, spec, tmp_path / "calibration.npz" if spec.kind == "static" else None)
    session = opened(OrtBackend().compile(ready, Conditions(), {}, tmp_path))
    scores = [session.run({"input": image[None]})[0][0] for image in data.test.x[0]]
    assert accuracy(np.stack(scores), data.test.y) <= score(network) + CHANCE
