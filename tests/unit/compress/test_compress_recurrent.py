"""Channels before a GRU or RNN, which torch unrolls into a graph that torch-pruning takes minutes to follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.compress.interface import Context, Network
from bench.compress.pipeline import apply_steps
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported

STEPS = 24


class Recurrent(nn.Module):
    """`residual`: the recurrent layer's outputs are added to its inputs, so both must stay."""

    def __init__(self, kind: type[nn.RNNBase], *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.conv = nn.Conv1d(4, 16, 3, padding=1)
        self.layer = kind(16, 8 if not residual else 16, num_layers=2, batch_first=True, bidirectional=not residual)
        self.hidden, self.head = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.conv(x)).transpose(1, 2)
        y, _ = self.layer(x)
        return self.head(torch.relu(self.hidden((x + y if self.residual else y)[:, -1])))


def run(text: str, module: nn.Module, folder: Path) -> nn.Module:
    context = Context(
        teacher=module,
        data=None,
        example=(torch.randn(2, 4, STEPS),),
        seed=0,
        cache=folder,
        progress=lambda *_: None,
    )
    return apply_steps(Network(module=module), parse_recipe("r", text).steps, context, "recurrent", {}).module


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN, nn.LSTM])
def test_channels_before_a_recurrent_layer_and_neurons_behind_it_go(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = run("channels(amount=0.5) + neurons(amount=0.5)", Recurrent(kind).eval(), tmp_path)
    assert found.conv.out_channels == found.layer.input_size == 8
    assert [*found.layer.weight_ih_l0.shape][1] == [*found.layer.weight_ih_l0_reverse.shape][1] == 8
    assert found.hidden.out_features == 6


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_channels_that_are_added_to_states_are_refused(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(Unsupported, match="'conv'"):
        run("channels(amount=0.5)", Recurrent(kind, residual=True).eval(), tmp_path)
