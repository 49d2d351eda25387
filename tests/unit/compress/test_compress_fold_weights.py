"""Weights that torch computes on every call become plain ones of the same outputs, and torch's own masks are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_network import context_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from bench.compress.fold_weights import fold_weights
from bench.compress.interface import Network
from bench.compress.outputs import largest_difference, outputs_of
from bench.compress.pipeline import apply_steps
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported

STEPS = (
    "prune(amount=0.5, scope='layer')",
    "channels(amount=0.5)",
    "lowrank(rank_ratio=0.5, skip=['2'])",
    "share(bits=2)",
    "qat(epochs=1)",
)


def network(wrap: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    first, second = wrap(nn.Conv2d(1, 8, 3, padding=1)), wrap(nn.Conv2d(8, 8, 3, padding=1))
    return nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


def masked() -> nn.Sequential:
    module = network(lambda layer: layer)
    prune.l1_unstructured(module[2], "weight", amount=0.5)
    prune.random_unstructured(module[2], "bias", amount=2)
    return module


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, weight_norm, parametrizations.spectral_norm, spectral_norm, masked]
)
def test_every_step_takes_the_folded_network_and_the_outputs_stay(wrap, step, tmp_path: Path):
    module = masked() if wrap is masked else network(wrap)
    x = torch.rand(2, 1, 8, 8)
    wanted = outputs_of(module, (x,))
    masks = fold_weights(module, (x,))
    assert all(isinstance(layer.weight, nn.Parameter) for layer in (module[0], module[2]))
    assert {name for name, _ in module.named_parameters()} == {
        f"{i}.{k}" for i in (0, 2, 6) for k in ("weight", "bias")
    }
    assert largest_difference(outputs_of(module, (x,)), wanted) < 1e-6
    found = apply_steps(
        Network(module=module, masks=masks), parse_recipe("r", step).steps, context_of(module, tmp_path), "n", {}
    )
    assert found.module(x).shape == (2, 4)


def test_weights_that_torch_pruned_stay_zero_through_training(tmp_path: Path):
    module = masked()
    x = torch.rand(2, 1, 8, 8)
    masks = fold_weights(module, (x,))
    assert {name: int((mask == 0).sum()) for name, mask in masks.items()} == {"2.weight": 288, "2.bias": 2}
    steps = parse_recipe("r", "finetune(epochs=2)").steps
    found = apply_steps(Network(module=module, masks=masks), steps, context_of(module, tmp_path), "n", {})
    for name, mask in masks.items():
        assert not bool(found.module.get_parameter(name)[mask == 0].any())
        assert bool(found.module.get_parameter(name)[mask == 1].all())
    assert not torch.equal(found.module[2].weight, module[2].weight)


def test_a_plain_network_is_left_as_it_is():
    module = network(lambda layer: layer)
    before = dict(module.named_parameters())
    assert fold_weights(module, (torch.rand(2, 1, 8, 8),)) == {}
    assert all(before[name] is value for name, value in module.named_parameters())


def test_a_weight_that_is_another_one_on_every_call_is_refused():
    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, weight: Tensor) -> Tensor:
            self.calls += 1
            return weight * self.calls

    module = network(lambda layer: layer)
    parametrize.register_parametrization(module[0], "weight", Turning())
    with pytest.raises(Unsupported, match=r"layers 0 compute their weights on every call; .* outputs differ by"):
        fold_weights(module, (torch.rand(2, 1, 8, 8),))


def test_a_batchnorm_without_scales_is_no_crash(tmp_path: Path):
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    (step,) = parse_recipe("r", "channels(amount=0.5, criterion='bn_scale')").steps
    with pytest.raises(Unsupported, match=r"BatchNorm2d.* has no weight"):
        step.apply(Network(module=module), context_of(module, tmp_path))


@pytest.mark.parametrize("step", ["lowrank(rank_ratio=0.5)", "separable"])
def test_networks_of_two_outputs_can_be_factorized(step, tmp_path: Path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.relu(self.first(x))
            return self.second(x), x

    torch.manual_seed(0)
    module = Two().eval()
    (wanted,) = parse_recipe("r", step).steps
    assert len(wanted.apply(Network(module=module), context_of(module, tmp_path)).module(torch.rand(1, 1, 8, 8))) == 2
