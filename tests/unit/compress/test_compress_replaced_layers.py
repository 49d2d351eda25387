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
from bench.compress.recipe import parse_recipe


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
