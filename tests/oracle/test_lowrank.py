"""Factorized and separable layers against the algebra they come from, and their MACs against the exported file's."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import settled, small_data
from torch import nn

from bench.compress.export import export
from bench.compress.factorize.cp import Cp
from bench.compress.factorize.lowrank import METHODS
from bench.compress.factorize.ranks import Place, by_budget
from bench.compress.factorize.separable import Separable
from bench.compress.factorize.svd import Svd
from bench.compress.factorize.tucker import Tucker
from bench.compress.interface import Context, Network
from bench.compress.recipe import parse_recipe
from bench.compress.replace_layers import Site, sites
from bench.cost.count import cost_of
from bench.errors import InvalidInput, Unsupported

CONVOLUTIONS = {
    "plain": {"padding": 1},
    "strided": {"stride": 2, "padding": 1},
    "oblong": {"kernel_size": (3, 5), "stride": (1, 2), "padding": (1, 2), "bias": False},
    "dilated": {"padding": "same", "dilation": 2},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
}


def convolution(kind: str) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 10, **({"kernel_size": 3} | CONVOLUTIONS[kind]))


def site_of(layer: nn.Module, x: torch.Tensor) -> Site:
    return sites(layer, {"": layer}, (x,))[""]


class Beside(nn.Module):
    """Networks that answer the same input: one file for all."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(network(x) for network in self.networks)


def macs_in_file(module: nn.Module, x: torch.Tensor, folder: Path) -> int:
    file = folder / "model.onnx"
    file.write_bytes(export(module.eval(), (x,)).onnx)
    return cost_of(file).macs


def context_of(module: nn.Module, example: torch.Tensor, folder: Path) -> Context:
    return Context(
        teacher=module, data=None, example=(example,), seed=0, cache=folder, progress=lambda what, fraction: None
    )


def apply(text: str, module: nn.Module, example: torch.Tensor, folder: Path) -> Network:
    network = Network(module=module.eval())
    for step in parse_recipe("r", text).steps:
        network = step.apply(network, context_of(module, example, folder))
    return network


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("method", [Svd(), Tucker()])
def test_a_convolution_at_full_rank_computes_what_it_did(method, kind):
    layer = convolution(kind)
    x = torch.randn(2, 6, 11, 14)
    full = method.build(layer, method.share(layer, 1.0), seed=0)
    torch.testing.assert_close(full(x), layer(x), atol=1e-5, rtol=1e-5)


def test_a_linear_layer_at_full_rank_computes_what_it_did():
    torch.manual_seed(0)
    layer = nn.Linear(7, 12)
    x = torch.randn(3, 4, 7)
    torch.testing.assert_close(Svd().build(layer, (7,), seed=0)(x), layer(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_kernel_that_is_of_low_cp_rank_is_found_again(kind):
    layer = convolution(kind)
    shape = layer.weight.shape
    generator = torch.Generator().manual_seed(3)
    sides = [torch.randn(side, 2, generator=generator, dtype=torch.float64) for side in shape]
    layer.weight.data = torch.einsum("or,ir,hr,wr->oihw", *sides).float()
    x = torch.randn(2, 6, 11, 14)
    torch.testing.assert_close(Cp().build(layer, (2,), seed=0)(x), layer(x), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("method", METHODS.values())
def test_the_error_falls_as_the_rank_rises(method):
    layer = convolution("plain")
    x = torch.randn(4, 6, 9, 9)
    wanted = layer(x)
    ranks = [method.share(layer, ratio) for ratio in (0.2, 0.4, 0.6, 0.8, 1.0)]
    errors = [float((method.build(layer, rank, seed=0)(x) - wanted).detach().square().mean()) for rank in ranks]
    assert len(set(ranks)) == 5
    assert all(later < 0.95 * earlier for earlier, later in itertools.pairwise(errors))


@pytest.mark.parametrize("kind", ["plain", "strided", "oblong", "dilated"])
@pytest.mark.parametrize("method", METHODS.values())
def test_the_price_of_a_chain_is_what_its_file_costs(method, kind, tmp_path):
    layer = convolution(kind)
    x = torch.randn(2, 6, 11, 14)
    site = site_of(layer, x)
    ranks = [method.share(layer, ratio) for ratio in (0.3, 0.7)]
    chains = [method.build(layer, rank, seed=0) for rank in ranks]
    prices = [method.price(site, rank) for rank in ranks]
    assert [price.params for price in prices] == [sum(part.weight.numel() for part in chain) for chain in chains]
    assert prices[0].macs < prices[1].macs
    whole = macs_in_file(Beside(layer, *chains), x, tmp_path)
    assert site.price.macs + prices[0].macs + prices[1].macs == whole


def test_svd_keeps_the_energy_asked_for_and_no_rank_less():
    torch.manual_seed(0)
    layer = nn.Linear(40, 30)
    site = site_of(layer, torch.randn(2, 40))
    (rank,) = Svd().energetic(site, 0.7, seed=0)

    def kept(r: int) -> float:
        low, high = Svd().build(layer, (r,), seed=0)
        missed = layer.weight - high.weight @ low.weight
        return 1 - float((missed.square().sum() / layer.weight.square().sum()).detach())

    assert kept(rank) >= 0.7 > kept(rank - 1)


@pytest.mark.parametrize("energy", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("method", ["tucker", "cp"])
def test_kernels_keep_at_least_the_energy_asked_for(method, energy):
    torch.manual_seed(1)
    layer = nn.Conv2d(16, 16, 3, bias=False)
    site = site_of(layer, torch.randn(1, 16, 8, 8))
    rank = METHODS[method].energetic(site, energy, seed=0)
    impulse = torch.zeros(16, 16, 5, 5)
    impulse[range(16), range(16), 2, 2] = 1.0  # a convolution's answer to it is its kernel
    chain = METHODS[method].build(layer, rank, seed=0)
    missed = float((chain(impulse) - layer(impulse)).detach().square().sum())
    assert 1 - missed / float(layer.weight.detach().square().sum()) >= energy - 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_macs_is_kept_and_used(method, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(384, 64),
        nn.Linear(64, 10),
    )
    x = torch.randn(2, 3, 12, 12)
    whole = macs_in_file(module, x, tmp_path)
    for ratio in (0.3, 0.5, 0.8):
        result = apply(f"lowrank(method='{method}', macs_ratio={ratio})", copy.deepcopy(module), x, tmp_path)
        assert ratio - 0.08 < macs_in_file(result.module, x, tmp_path) / whole <= ratio


class Reused(nn.Module):
    """A layer that is called three times and a transposed convolution: MACs that their sizes alone do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = torch.relu(self.again(x))
        return self.up(x)


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_counts_every_call_and_transposed_convolutions_by_their_inputs(method, tmp_path):
    torch.manual_seed(0)
    module, x = Reused(), torch.randn(2, 3, 12, 12)
    result = apply(f"lowrank(method='{method}', macs_ratio=0.4)", module, x, tmp_path)
    share = macs_in_file(result.module, x, tmp_path) / macs_in_file(module, x, tmp_path)
    assert 0.32 < share <= 0.4


def test_a_budget_is_spent_where_it_keeps_most():
    """Of two layers the one of low rank is cut and the other is left whole, at half the MACs of both."""
    torch.manual_seed(0)
    flat, low = nn.Linear(40, 40), nn.Linear(40, 40)
    low.weight.data = torch.randn(40, 3) @ torch.randn(3, 40)
    places = {
        name: Place(site=site_of(layer, torch.randn(1, 40)), method=Svd())
        for name, layer in {"flat": flat, "low": low}.items()
    }
    chosen = by_budget(places, 1.2 * 40 * 40)
    assert chosen["low"] == (3,)
    assert isinstance(chosen["flat"], str)


def test_a_layer_that_would_grow_stays_and_is_named_with_the_reason(tmp_path):
    module = settled()
    x = torch.from_numpy(small_data().train.x[0][:2])
    result = apply("lowrank(method='svd', rank_ratio=0.5)", module, x, tmp_path)
    assert set(result.notes["factorized"]) == {"conv", "pointwise", "fc1", "fc2"} - set(result.notes["not_factorized"])
    assert "grouped" in result.notes["not_factorized"]["depthwise"]
    assert "fc1" in result.notes["factorized"]
    with pytest.raises(Unsupported, match=r"fc2: it would grow at rank 4: 64 -> 80 weights"):
        apply("lowrank(rank_ratio=0.99, only=('fc2',))", module, x, tmp_path)
    with pytest.raises(Unsupported, match="fc2: at rank 1 what can be factorized needs 20 MACs, and 6 are allowed"):
        apply("lowrank(macs_ratio=0.1, only=('fc2',))", module, x, tmp_path)
    with pytest.raises(Unsupported, match=r"conv: no smaller chain keeps 0\.999"):
        apply("lowrank(method='cp', energy=0.999, only=('conv',))", module, x, tmp_path)


def test_one_kind_of_layer_can_be_asked_for(tmp_path):
    x = torch.from_numpy(small_data().train.x[0][:2])
    linear = apply("lowrank(rank_ratio=0.3, layers='linear')", settled(), x, tmp_path)
    assert set(linear.notes["factorized"]) == {"fc1", "fc2"}
    kernels = apply("lowrank(rank_ratio=0.3, layers='convolution')", settled(), x, tmp_path)
    assert set(kernels.notes["factorized"]) == {"conv", "pointwise"}


def test_many_layers_that_stay_for_one_reason_are_named_in_a_line(tmp_path):
    module = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1, groups=4) for _ in range(20)), nn.Conv2d(4, 4, 1))
    with pytest.raises(Unsupported, match=r"\(0, 1, 2 and 17 more: a grouped convolution \(4 groups\); 20: a 1x1"):
        apply("separable", module, torch.randn(2, 4, 6, 6), tmp_path)


def test_each_named_layer_gets_the_rank_that_is_asked_for_and_no_other_layer_changes(tmp_path):
    x = torch.from_numpy(small_data().train.x[0][:2])
    found = apply("lowrank(ranks=('conv=3', 'fc1=5', 'pointwise=99'))", settled(), x, tmp_path)
    assert {name: done["rank"] for name, done in found.notes["factorized"].items()} == {"conv": [3], "fc1": [5]}
    assert found.notes["not_factorized"]["pointwise"].startswith("it would grow at rank 99")
    with pytest.raises(InvalidInput, match="no layer 'fc9'"):
        apply("lowrank(ranks=('fc9=5',))", settled(), x, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lowrank(ranks=('fc1',))", "'fc1': write 'layer=number'"),
        ("lowrank(ranks=('fc1=5', 'fc1=6'))", "layer 'fc1' is named twice"),
        ("lowrank(ranks=('fc1=5',), method='tucker')", "takes no other method than svd"),
        ("lowrank(ranks=('fc1=5',), skip=('conv',))", "ranks names its layers"),
    ],
)
def test_ranks_that_mean_nothing_are_refused(text, said):
    with pytest.raises(InvalidInput, match=said):
        parse_recipe("r", text)


@pytest.mark.parametrize(
    "text",
    ["lowrank", "lowrank(energy=0.9, rank_ratio=0.5)", "lowrank(method='svd')", "lowrank(energy=0.9, ranks=('a=1',))"],
)
def test_exactly_one_way_to_choose_the_rank_is_given(text):
    with pytest.raises(InvalidInput, match="exactly one of rank_ratio, energy, macs_ratio"):
        parse_recipe("r", text)


@pytest.mark.parametrize("step", ["lowrank(rank_ratio=0.3)", "separable(only=('conv',))"])
def test_a_pruned_layer_is_not_replaced_because_its_zeros_would_be_lost(step, tmp_path):
    x = torch.from_numpy(small_data().train.x[0][:2])
    with pytest.raises(Unsupported, match="'conv' has pruned weights"):
        apply(f"prune(amount=0.5) + {step}", settled(), x, tmp_path)


def test_a_layer_used_twice_is_replaced_at_both_places(tmp_path):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(16, 16)
            self.alias = self.first

        def forward(self, x):
            return self.alias(torch.relu(self.first(x)))

    torch.manual_seed(0)
    result = apply("lowrank(rank_ratio=0.3)", Twice(), torch.randn(2, 16), tmp_path)
    assert result.module.first is result.module.alias
    assert isinstance(result.module.first, nn.Sequential)


def test_a_network_that_reads_its_layers_weights_is_refused_with_the_reason(tmp_path):
    class Peeks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(16, 16)

        def forward(self, x):
            return self.first(x) * self.first.weight.mean()

    with pytest.raises(Unsupported, match="does not run with first replaced"):
        apply("lowrank(rank_ratio=0.3)", Peeks(), torch.randn(2, 16), tmp_path)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_separable_block_with_a_filter_for_every_tap_computes_what_the_layer_did(kind, tmp_path):
    torch.manual_seed(0)
    wide = {**CONVOLUTIONS[kind], "kernel_size": (2, 2), "padding": 0}
    layer = nn.Conv2d(6, 40, **wide)
    x = torch.randn(2, 6, 11, 14)
    module = nn.Sequential(layer)
    block = Separable(multiplier=4)._block(layer)  # as a step it is refused: it saves nothing
    torch.testing.assert_close(block(x), layer(x), atol=1e-5, rtol=1e-5)
    fewer = (apply(f"separable(multiplier={count}, only=('0',))", module, x, tmp_path).module for count in (1, 3))
    far, near = (float((found(x) - layer(x)).detach().square().sum()) for found in fewer)
    assert near < far / 2 < float(layer(x).detach().square().sum()) / 2


def test_each_input_channel_of_a_separable_block_is_its_best_rank_one_approximation(tmp_path):
    layer = convolution("plain")
    x = torch.randn(2, 6, 8, 8)
    result = apply("separable(only=('0',))", nn.Sequential(layer), x, tmp_path)
    depthwise, pointwise = result.module[0]
    for channel in range(6):
        matrix = layer.weight[:, channel].detach().numpy().reshape(10, 9)
        found = np.outer(pointwise.weight[:, channel].detach(), depthwise.weight[channel].detach().flatten())
        beyond = np.linalg.svd(matrix, compute_uv=False)[1:]
        assert np.sum((matrix - found) ** 2) == pytest.approx(np.sum(beyond**2), rel=1e-4)


def test_a_separable_block_costs_what_the_paper_says_and_the_first_convolution_stays(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1))
    x = torch.randn(2, 3, 12, 12)
    result = apply("separable", module, x, tmp_path)
    assert result.notes["separable"] == ["2"]
    assert result.notes["not_separable"] == {"0": "the first convolution stays full"}
    first = 3 * 16 * 9 * 144
    assert macs_in_file(result.module, x, tmp_path) == first + 144 * 16 * (9 + 24)
    with pytest.raises(Unsupported, match="replaces no layer"):
        apply("separable", settled(), torch.from_numpy(small_data().train.x[0][:2]), tmp_path)
