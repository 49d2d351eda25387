"""Removing channels: they are really gone, what depends on them follows, and the outputs stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_network import Small, context_of, settled, small_data
from torch import Tensor, nn

from bench.compress.interface import Context, Network
from bench.compress.prune.remove_channels import Cut, remove
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported

CRITERIA = ("l1", "l2", "random", "taylor", "hessian", "activation", "apoz")


class Residual(nn.Module):
    """Two layers tied by a sum, a grouped convolution, and a convolution as the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        return self.head(torch.relu(self.grouped(x + self.inner(x))))


class Fixed(nn.Module):
    """Its reshape holds the channel count as a number, so it cannot run with fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.fc = nn.Linear(512, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).reshape(-1, 512))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_of(nn.Identity(), tmp_path)


def run(text: str, module: nn.Module, context: Context) -> Network:
    network = Network(module=module)
    for step in parse_recipe("r", text).steps:
        network = step.apply(network, context)
    return network


@pytest.mark.parametrize("criterion", [*CRITERIA, "l2', scope='global"])
def test_channels_go_from_every_convolution_and_from_no_output(criterion, context):
    small = run(f"channels(amount=0.5, criterion='{criterion}')", settled(), context).module
    widths = (small.conv.out_channels, small.pointwise.out_channels)
    assert widths == (4, 6) if "global" not in criterion else sum(widths) == 10
    assert small.depthwise.in_channels == small.depthwise.groups == small.bn.num_features == small.conv.out_channels
    assert small.fc1.in_features == 4 * small.pointwise.out_channels
    assert (small.fc1.out_features, small.fc2.out_features) == (16, 4)
    assert small(torch.rand(5, 1, 8, 8)).shape == (5, 4)


def test_channels_nobody_listens_to_go_first_and_the_outputs_stay_the_same(context):
    module = settled()
    idle = [1, 2, 5, 7]
    with torch.no_grad():
        module.conv.weight[idle] *= 1e-3
        module.depthwise.weight[idle] *= 1e-3
        module.pointwise.weight[:, idle] = 0
        module.pointwise.weight[[0, 3, 4, 9, 10, 11]] *= 1e-3
        module.fc1.weight.view(16, 12, 4)[:, [0, 3, 4, 9, 10, 11]] = 0
    x = torch.rand(6, 1, 8, 8)
    small = run("channels(amount=0.5, criterion='l2')", module, context).module
    assert small.conv.out_channels == 4
    torch.testing.assert_close(small(x), module(x), rtol=1e-4, atol=1e-5)


def test_batchnorm_scales_decide_where_there_are_any(context):
    module = settled()
    with torch.no_grad():
        module.bn.weight.copy_(torch.tensor([1, -3, 0.1, 0.2, 2, 0.3, 4, 0.4]))
    small = run("channels(amount=0.5, criterion='bn_scale')", module, context).module
    assert torch.equal(small.bn.weight.detach(), torch.tensor([1.0, -3, 2, 4]))
    with pytest.raises(Unsupported, match="BatchNorm"):
        run("neurons(amount=0.5, criterion='bn_scale')", module, context)


def test_network_slimming_has_one_threshold_for_the_scales_of_all_layers(context):
    """Liu et al. 2017, section 3: a percentile of all |gamma|, however small a layer's own are."""
    module = settled()
    with torch.no_grad():
        module.bn.weight.copy_(torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, -0.95, 0.96]))
        module.bn2.weight.copy_(torch.tensor([0.1, -0.2, *(0.5 + 0.1 * i for i in range(10))]))
    small = run("channels(amount=0.4, criterion='bn_scale', scope='global')", module, context).module
    assert torch.equal(small.bn.weight.detach(), torch.tensor([-0.95, 0.96]))
    assert torch.equal(small.bn2.weight.detach(), module.bn2.weight.detach()[2:])
    with pytest.raises(Unsupported, match="would lose all its 8 channels"):
        run("channels(amount=0.75, criterion='bn_scale', scope='global')", module, context)


@pytest.mark.parametrize(("criterion", "kept"), [("activation", 1), ("apoz", 0)])
def test_activity_is_measured_after_batchnorm_and_the_activation(criterion, kept, context):
    """One channel is rarely on but strongly, the other always on but weakly."""
    module = settled().train()
    module.bn.momentum = 1.0
    module(torch.from_numpy(small_data().train.x[0]))
    module.eval()
    with torch.no_grad():
        module.bn.weight.zero_()
        module.bn.bias.copy_(torch.tensor([0.1, -1.0, -9, -9, -9, -9, -9, -9]))
        module.bn.weight[1] = 3.0
    small = run(f"channels(amount=0.875, criterion='{criterion}', only=['conv', 'depthwise'])", module, context).module
    assert small.conv.out_channels == 1
    assert torch.equal(small.bn.bias.detach(), module.bn.bias.detach()[kept : kept + 1])


@pytest.mark.parametrize(("follows", "kept"), [(nn.Identity(), 0), (nn.ReLU(), 1), (nn.ReLU6(), 2)])
def test_activation_is_the_mean_magnitude_of_what_goes_on(follows, kept, context):
    """Of -9, of 0 to 16 (6.0 in the mean, 4.3 under ReLU6) and of 5.5 everywhere, another one is the strongest."""
    conv = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([0.0, 16.0, 0.0, 0.0]).reshape(4, 1, 1, 1))
        conv.bias.copy_(torch.tensor([-9.0, 0.0, 5.5, 0.1]))
    module = nn.Sequential(conv, follows, nn.Conv2d(4, 2, 1)).eval()
    small = run("channels(amount=0.75, criterion='activation')", module, context).module
    assert torch.equal(small[0].bias.detach(), conv.bias.detach()[kept : kept + 1])


def test_neurons_go_from_hidden_linear_layers_only(context):
    small = run("neurons(amount=0.75)", settled(), context).module
    assert (small.fc1.out_features, small.fc2.in_features, small.fc2.out_features) == (4, 4, 4)
    assert (small.conv.out_channels, small.pointwise.out_channels) == (8, 12)


def test_tied_and_grouped_layers_stay_consistent_and_a_convolution_that_is_the_output_stays(context):
    torch.manual_seed(0)
    small = run("channels(amount=0.5)", Residual().eval(), context).module
    assert (small.stem.out_channels, small.inner.out_channels, small.head.in_channels) == (4, 4, 4)
    assert (small.grouped.groups, small.grouped.in_channels, small.grouped.out_channels) == (2, 4, 4)
    assert small.head.out_channels == 3


def test_round_to_keeps_widths_multiples(context):
    small = run("channels(amount=0.4, round_to=4)", settled(), context).module
    assert (small.conv.out_channels, small.pointwise.out_channels) == (4, 8)


def test_each_layer_can_have_its_own_share(context):
    network = remove(Network(module=settled()), {"pointwise": 0.25}, Cut(criterion="l2"), context)
    assert (network.module.conv.out_channels, network.module.pointwise.out_channels) == (8, 9)
    assert network.notes["channels"] == {"pointwise": [12, 9]}


def test_masks_follow_the_channels(context):
    small = run("prune(amount=0.5) + channels(amount=0.5) + finetune(epochs=1)", settled(), context)
    assert small.masks["pointwise.weight"].shape == (6, 4, 1, 1)
    for name, mask in small.masks.items():
        assert torch.equal((small.module.get_parameter(name) != 0).float(), mask)


@pytest.mark.parametrize(
    ("text", "module", "reason"),
    [
        ("channels(amount=0.99, skip=['pointwise'])", Small(), "'depthwise' would lose all its 8 channels"),
        ("channels(amount=0.01)", Small(), "removes no channel"),
        ("channels(amount=0.5)", nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), "no convolution"),
        ("neurons(amount=0.5)", nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), "only outputs"),
        ("neurons(amount=0.5)", nn.Sequential(nn.Conv2d(1, 4, 1)), "no linear layer"),
        ("channels(amount=0.5)", Fixed(), "does not run with fewer channels|cannot trace|outputs' shape"),
    ],
)
def test_what_cannot_be_removed_is_refused_with_the_reason(text, module, reason, context):
    with pytest.raises(Unsupported, match=reason):
        run(text, module.eval(), context)


@pytest.mark.parametrize(
    "later",
    [
        "channels(amount=0.5)",
        "neurons(amount=0.5)",
        "sensitivity(granularity='channel', max_drop_pp=90.0)",
        "iterative(to=0.5, granularity='channel')",
    ],
)
def test_channels_are_not_taken_out_of_an_nm_pattern(later, context):
    with pytest.raises(Unsupported, match="break the 2:4 pattern of the weights; remove them before nm"):
        run(f"nm(n=2, m=4) + {later}", settled(), context)
    assert run("channels(amount=0.5) + nm(n=2, m=4)", settled(), context).masks


def test_a_network_that_cannot_be_traced_is_refused(context):
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.conv(x).numpy()

    with pytest.raises(Unsupported, match="cannot trace"):
        run("channels(amount=0.5)", Plain().eval(), replace(context, data=None))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
@pytest.mark.parametrize("criterion", ["l2", "activation"])
def test_a_part_of_another_float_type_loses_channels_too(criterion, kind, context):
    class Cast(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(kind)).float().mean((2, 3))

    found = run(f"channels(amount=0.5, criterion='{criterion}', round_to=1)", Cast().to(kind).eval(), context)
    assert found.module.stem.out_channels == 4
    assert found.module.stem.weight.dtype == kind
