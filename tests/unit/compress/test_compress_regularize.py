"""Regularised training: magnitudes really shrink, and only those it names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import run
from torch import nn

from bench.compress.interface import Network
from bench.compress.layers import weighted_layers
from bench.compress.prune.regularize import sum_of_magnitudes
from bench.errors import Unsupported


def gates(module: nn.Module) -> float:
    return sum(float(layer.weight.detach().abs().sum()) for layer in (module.bn, module.bn2))


def weights(module: nn.Module) -> float:
    return sum(float(layer.weight.detach().abs().sum()) for layer in weighted_layers(module).values())


def test_the_added_loss_is_the_sum_of_magnitudes():
    assert float(sum_of_magnitudes([torch.tensor([1.0, -2.0]), torch.tensor([[-0.5]])])) == 3.5


@pytest.mark.parametrize(("kind", "size"), [("bn_l1", gates), ("l1", weights)])
def test_what_it_draws_shrinks_more_the_stronger_it_draws(kind, size, network, context):
    plain = run("finetune(epochs=30, learning_rate=0.05)", network, context)
    weak, strong = (
        run(f"regularize(kind='{kind}', strength={s}, epochs=30, learning_rate=0.05)", network, context)
        for s in (0.01, 0.1)
    )
    assert size(strong.module) < size(weak.module) < size(plain.module)
    assert size(strong.module) < 0.5 * size(network.module)
    before, after = strong.notes["norm"][kind]
    assert before == pytest.approx(size(network.module))
    assert after == pytest.approx(size(strong.module))


def test_drawn_gates_tell_channels_apart_and_slimming_removes_the_least(network, context):
    drawn = run("regularize(kind='bn_l1', strength=0.02, epochs=40, learning_rate=0.05)", network, context)
    gamma = drawn.module.bn.weight.detach().abs()
    assert gamma.min() < 0.1 * gamma.max()
    slim = run("channels(amount=0.5, criterion='bn_scale', only=['conv', 'depthwise'])", drawn, context)
    kept = gamma.topk(4).values.sort().values
    assert torch.equal(slim.module.bn.weight.detach().abs().sort().values, kept)


def test_masked_weights_stay_gone(network, context):
    result = run("prune(amount=0.5) + regularize(epochs=1)", network, context)
    for name, mask in result.masks.items():
        assert torch.all(result.module.get_parameter(name)[mask == 0] == 0)


def test_gates_of_a_network_without_batchnorm_are_refused(context):
    plain = Network(module=nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(Unsupported, match="no BatchNorm"):
        run("regularize(kind='bn_l1')", plain, context)
    with pytest.raises(Unsupported, match="no data set"):
        run("regularize", plain, replace(context, data=None))
