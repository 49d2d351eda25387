"""Convolutions of an exported network whose padding is a word: quantizers see them once it is in numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from backends.programs.graph import layers, settle_paddings


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(2, 3, 3, padding="same"), (2, 7, 5)),
        (nn.Conv2d(2, 4, (4, 3), padding="same", dilation=(1, 2), groups=2, bias=False), (2, 7, 5)),
        (nn.Conv1d(2, 3, 8, padding="same", dilation=3), (2, 30)),
        (nn.Conv2d(2, 3, 3, padding="valid", stride=2), (2, 7, 5)),
        (nn.Conv3d(1, 2, (2, 3, 1), padding="same"), (1, 4, 4, 4)),
    ],
)
def test_the_network_computes_the_same_and_its_layer_is_seen(network: nn.Module, shape: tuple[int, ...]) -> None:
    example = torch.randn(2, *shape)
    module = torch.export.export(nn.Sequential(network).eval(), (example,)).module(check_guards=False)
    assert not layers(module)
    settle_paddings(module)
    assert list(layers(module)) == ["0"]
    torch.testing.assert_close(module(example), network(example))
