"""Layers that chains take the places of: frozen ones, tied ones, ones called by keyword, in windows, or read by the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import context_of
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.interface import Network
from bench.compress.pipeline import apply_steps
from bench.compress.quantize.mixed import multiplications
from bench.compress.recipe import parse_recipe
from bench.compress.replace_layers import sites
from bench.errors import Unsupported
from bench.models.factory import build
from bench.types import Model


class Wide(nn.Module):
    """Two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.hidden, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(F.relu(self.stem(x)))).mean((2, 3))
        return self.head(F.relu(self.hidden(x)))


class Worded(nn.Module):
    """The head has the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(16, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.embedding((x.flatten(1) * 7).long() % 16).mean(1))))


class ByKeyword(Wide):
    """Every layer gets its input by name."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(input=F.relu(self.stem(input=x)))).mean((2, 3))
        return self.head(input=F.relu(self.hidden(input=x)))


class Windows(nn.Module):
    """Rows of an image before the samples, then windows of 4x4 beside them, as attention in windows and RNNs have it."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.window, self.frame = nn.Linear(8, 8), nn.Linear(16, 16), nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.row(x.flatten(1, 2).transpose(0, 1)).transpose(0, 1)
        windows = rows.reshape(len(x), 2, 4, 2, 4).transpose(2, 3).reshape(-1, 16)
        frames = self.frame(self.window(windows).reshape(-1, 1, 4, 4))
        return self.head(frames.reshape(len(x), 4, 8, 16).mean((1, 3)))


class Reading(Wide):
    """Reads the weight of a layer that it also calls."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.hidden.weight.mean() + self.conv.weight.mean()


class Framed(nn.Module):
    """Reads the weight of its middle layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.last = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.stem(x))).mean((2, 3)) * self.middle.weight.mean()


class Biased(nn.Module):
    """A layer on a table of the network's own, as the biases of Swin V2 for places beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.head = nn.Linear(2, 16), nn.Linear(16, 4)
        self.register_buffer("table", torch.rand(1, 15, 15, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.places(self.table).mean((0, 1, 2)))


class Encoding(nn.Module):
    """torch's own transformer, which in eval mode could read the weights of its layers past them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 64, batch_first=True), 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.flatten(1, 2)).mean(1))


def encoding() -> nn.Module:
    return Encoding()


def run(text: str, module: nn.Module, folder: Path) -> Network:
    return apply_steps(
        Network(module=module.eval()), parse_recipe("r", text).steps, context_of(module, folder), "replaced", {}
    )


@pytest.mark.parametrize("step", ["lowrank(rank_ratio=0.3)", "lowrank(method='tucker', rank_ratio=0.3)", "separable()"])
def test_what_is_frozen_stays_so_in_the_layers_that_replace_it(step: str, tmp_path: Path):
    module = Wide()
    for value in (*module.conv.parameters(), module.hidden.weight):
        value.requires_grad_(requires_grad=False)
    found = run(f"{step} + finetune(epochs=1)", module, tmp_path).module
    untrained = run(step, module, tmp_path).module
    assert isinstance(found.conv, nn.Sequential)
    frozen = {name for name, value in found.named_parameters() if not value.requires_grad}
    assert {name.partition(".")[0] for name in frozen} == {"conv", "hidden"}
    assert all(name.startswith("conv") or name.endswith("weight") for name in frozen), "a bias that may learn"
    assert all(torch.equal(found.get_parameter(name), untrained.get_parameter(name)) for name in frozen)


def test_a_head_with_the_weight_of_its_embedding_stays_since_the_embedding_would_remain(tmp_path: Path):
    found = run("lowrank(rank_ratio=0.3)", Worded(), tmp_path)
    assert set(found.notes["factorized"]) == {"hidden"}
    assert found.notes["not_factorized"] == {"head": "its weight is another layer's too"}
    assert found.module.head.weight is found.module.embedding.weight


@pytest.mark.parametrize(
    "step",
    [
        "lowrank(rank_ratio=0.3)",
        "separable()",
        "prune(amount=0.5, criterion='activation')",
        "mixed_int8(max_drop_pp=50.0)",
        "qat(epochs=1)",
    ],
)
def test_layers_that_are_called_by_keyword_are_like_others(step: str, tmp_path: Path):
    torch.manual_seed(0)
    module = Wide()
    named = ByKeyword()
    named.load_state_dict(module.state_dict())
    found, wanted = (run(step, one, tmp_path) for one in (named, module))
    assert found.notes == wanted.notes
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(found.module(x), wanted.module(x))


def test_macs_of_a_layer_count_all_its_rows_wherever_the_samples_lie(tmp_path: Path):
    module = Windows().eval()
    layers = {name: module.get_submodule(name) for name in ("row", "window", "frame", "head")}
    example = context_of(module, tmp_path).example
    wanted = {"row": 8 * 64, "window": 4 * 256, "frame": 4 * 16 * 72, "head": 32}
    assert {name: site.price.macs for name, site in sites(module, layers, example).items()} == wanted
    assert multiplications(module, layers, example) == wanted
    noted = run("lowrank(rank_ratio=0.3)", module, tmp_path).notes["factorized"]["frame"]
    assert noted["macs"] == [wanted["frame"], 4 * 16 * noted["rank"][0] * (9 + 8)]


def test_macs_of_a_layer_that_does_not_see_the_samples_are_all_its_rows():
    module = Biased().eval()
    layers = {name: module.get_submodule(name) for name in ("places", "head")}
    example, wanted = (torch.rand(2, 16),), {"places": 225 * 32, "head": 64}
    assert {name: site.price.macs for name, site in sites(module, layers, example).items()} == wanted
    assert multiplications(module, layers, example) == wanted


def test_a_layer_whose_weight_the_network_reads_stays_and_the_others_are_replaced(tmp_path: Path):
    found = run("lowrank(rank_ratio=0.2)", Reading(), tmp_path).notes
    assert {*found["factorized"]} == {"stem", "head"}
    assert {*found["not_factorized"]} == {"hidden", "conv"}
    assert "does not run with hidden replaced: 'Sequential' object has no" in found["not_factorized"]["hidden"]
    found = run("separable()", Framed(), tmp_path).notes
    assert found["separable"] == ["last"]
    assert "does not run with middle replaced" in found["not_separable"]["middle"]


@pytest.mark.parametrize("asked", ["macs_ratio=0.3", "ranks=('hidden=4', 'head=1')"])
def test_what_is_asked_of_a_layer_that_the_network_needs_is_refused(asked: str, tmp_path: Path):
    with pytest.raises(Unsupported, match=r"does not run with hidden replaced: .*; leave .*hidden.* out"):
        run(f"lowrank({asked})", Reading(), tmp_path)


def test_a_layer_that_the_network_needs_and_that_is_named_is_refused(tmp_path: Path):
    with pytest.raises(Unsupported, match=r"does not run with middle replaced: .*; leave middle out"):
        run("separable(only=('middle', 'last'))", Framed(), tmp_path)


def test_the_layers_of_torchs_own_transformer_are_replaced(tmp_path: Path):
    model = Model(name="m", factory="test_compress_replaced_layers:encoding", input_shape=(1, 8, 8))
    found = run("lowrank(rank_ratio=0.3)", build(model, 0), tmp_path)
    assert {"encoder.layers.0.linear1", "encoder.layers.0.linear2"} <= {*found.notes["factorized"]}
