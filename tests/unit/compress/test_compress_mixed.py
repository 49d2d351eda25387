"""The mixed-precision search: within the drop, with the fewest layers in float, blind to the test set."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import Small, small_data, train_small
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.layers import weighted_layers
from bench.compress.quantize.mixed import MixedInt8, multiplications
from bench.data.parts import ArrayPart
from bench.errors import Unsupported

EXAMPLE = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)),)


@pytest.fixture(scope="module")
def lopsided() -> nn.Module:
    """A trained network whose depthwise filters differ a million times in size: one int8 grid cannot hold them."""
    torch.manual_seed(0)
    module = Small()
    train_small(module, epochs=15)
    factor = torch.logspace(-3, 3, 8)
    with torch.no_grad():
        module.depthwise.weight.mul_(factor.reshape(-1, 1, 1, 1))
        module.depthwise.bias.mul_(factor)
        module.pointwise.weight.div_(factor.reshape(1, -1, 1, 1))
    return module.eval()


def context_of(module: nn.Module, folder: Path) -> Context:
    data = small_data()
    return Context(
        teacher=module,
        data=replace(data, test=ArrayPart((np.full_like(data.test.x[0], np.nan),), data.test.y)),
        example=EXAMPLE,
        seed=0,
        cache=folder,
        progress=lambda what, fraction: None,
    )


def test_the_search_stops_within_the_drop_with_some_layers_in_float_and_not_all(lopsided, tmp_path):
    step = MixedInt8(per_channel=False, max_drop_pp=1.0)
    found = step.apply(Network(module=lopsided), context_of(lopsided, tmp_path))
    assert found.quant is not None
    accuracy = found.notes["mixed_int8"]["held_out_score"]
    assert accuracy["float32"] - accuracy["int8"] > 0.1
    assert 100 * (accuracy["float32"] - accuracy["mixed"]) <= 1.0
    assert 0 < len(found.quant.keep_float) < len(weighted_layers(lopsided))
    assert "pointwise" in found.quant.keep_float


def test_where_int8_costs_nothing_no_layer_is_float_and_nothing_more_is_tried(tmp_path):
    torch.manual_seed(0)
    module = Small()
    train_small(module, epochs=15)
    found = MixedInt8(max_drop_pp=2.0).apply(Network(module=module), context_of(module, tmp_path))
    assert found.quant is not None
    assert found.quant.keep_float == ()
    assert found.notes["mixed_int8"]["loss_added_alone"] == {}


def test_the_search_leaves_the_network_as_it_was(lopsided, tmp_path):
    before = copy.deepcopy(lopsided.state_dict())
    MixedInt8(per_channel=False).apply(Network(module=lopsided), context_of(lopsided, tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in lopsided.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in lopsided.modules())


def test_a_network_that_no_int8_layer_leaves_right_is_refused(tmp_path):
    class Delicate(nn.Module):
        """Tells two classes apart by the 20th bit of its input."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 2, bias=False)
            self.fc.weight.data = torch.tensor([[1.0], [-1.0]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    draw = np.random.default_rng(0)
    labels = np.arange(400, dtype=np.int64) % 2
    x = np.where(labels == 0, 1e-5, -1e-5).astype(np.float32)[:, None]
    x[draw.integers(0, 400, 40)] *= 1e5
    data = replace(small_data(), train=ArrayPart((x,), labels), test=ArrayPart((x,), labels), classes=2)
    module = Delicate()
    context = replace(context_of(module, tmp_path), data=data, example=(torch.from_numpy(x[:2]),))
    with pytest.raises(Unsupported, match="not one layer can be int8 within this drop"):
        MixedInt8().apply(Network(module=module), context)


def test_multiplications_are_those_of_the_layers_formulas():
    module = Small().eval()
    found = multiplications(module, weighted_layers(module), EXAMPLE)
    assert found == {"conv": 64 * 72, "depthwise": 64 * 72, "pointwise": 64 * 96, "fc1": 768, "fc2": 64}
    turned = nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2, groups=1))
    assert multiplications(turned, weighted_layers(turned), (torch.rand(2, 3, 4, 4),)) == {"0": 16 * 3 * 5 * 4}
