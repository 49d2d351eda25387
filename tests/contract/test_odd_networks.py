"""Every compressor takes a network of an odd structure or refuses it with a reason: no error of a library passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_network import context_of
from torch import Tensor, nn

from bench.compress.interface import Network
from bench.compress.outputs import outputs_of
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported

STEPS = (
    "channels(amount=0.5)",
    "channels(amount=0.25, scope='global', criterion='l1')",
    "channels(amount=0.3, round_to=4)",
    "neurons(amount=0.5)",
    "lowrank(rank_ratio=0.5)",
    "separable",
    "prune(amount=0.5)",
    "nm(n=2, m=4)",
    "share(bits=2)",
    "hashed(ratio=0.5)",
)


class Net(nn.Module):
    """Six layers of eight channels, put together by the function given."""

    def __init__(self, join: Callable[[Net, Tensor], object]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.upper, self.grouped = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1, groups=4)
        self.head, self.hidden, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 16), nn.Linear(16, 4)
        self.join = join

    def forward(self, x: Tensor) -> object:
        return self.join(self, torch.relu(self.stem(x)))

    def classify(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(x.mean((2, 3)))))


def shuffle(net: Net, x: Tensor) -> object:
    n, c, h, w = x.shape
    mixed = net.grouped(x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return net.classify(net.head(mixed))


def split(net: Net, x: Tensor) -> object:
    first, second = x.split(4, 1)
    return net.classify(net.head(net.upper(first) + torch.cat([second, first], 1)))


def dictionary(net: Net, x: Tensor) -> object:
    return {"scores": net.classify(net.head(x)), "maps": [x, net.grouped(x)]}


def softmax_over_channels(net: Net, x: Tensor) -> object:
    return net.classify(net.head(x.softmax(1)))


def fixed_reshape(net: Net, x: Tensor) -> object:
    return net.classify(net.head(x.reshape(len(x), 8, 64).sigmoid().reshape(len(x), 8, 8, 8)))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("join", [shuffle, split, dictionary, softmax_over_channels, fixed_reshape])
def test_odd_networks_are_taken_or_refused(join, step, tmp_path: Path):
    torch.manual_seed(0)
    module = Net(join).eval()
    context = replace(context_of(module, tmp_path), data=None)
    wanted = outputs_of(module, context.example)
    (parsed,) = parse_recipe("r", step).steps
    try:
        small = parsed.apply(Network(module=module), context).module
    except Unsupported:
        return
    got = outputs_of(small, context.example)
    assert [one.shape for one in got] == [one.shape for one in wanted]
