"""Builds a layer's chain from factors that Tensorly or a matrix decomposition found."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from bench.compress.factorize.factorization import Array
from bench.compress.layers import weight_of


def biased(layer: nn.Module) -> bool:
    """Whether the layer has a bias."""
    return layer.bias is not None


def pointwise(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    """A 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def kernel_like(layer: nn.Conv2d, inputs: int, outputs: int, axis: int | None = None) -> nn.Conv2d:
    """A convolution over the same windows with other channels. With `axis`: only along that axis, one filter a channel."""

    def along(values: tuple[int, ...], neutral: int) -> tuple[int, int]:
        pair = tuple(value if axis in (None, index) else neutral for index, value in enumerate(values))
        return cast("tuple[int, int]", pair)

    padding = layer.padding
    return nn.Conv2d(
        inputs,
        outputs,
        along(layer.kernel_size, 1),
        stride=along(layer.stride, 1),
        padding=padding if isinstance(padding, str) else along(padding, 0),
        dilation=along(layer.dilation, 1),
        groups=1 if axis is None else inputs,
        bias=False,
        padding_mode=layer.padding_mode,
    )


def chain_of(layer: nn.Module, *parts: tuple[nn.Module, Array]) -> nn.Sequential:
    """The chain of (part, its weight) in place of `layer`, whose bias goes to the last part. What is frozen stays frozen."""
    whole = weight_of(layer)
    for part, values in parts:
        weight = weight_of(part).requires_grad_(whole.requires_grad)
        weight.data = torch.from_numpy(np.ascontiguousarray(values)).reshape(weight.shape).to(whole.dtype)
    if biased(layer):
        assert isinstance(layer.bias, Tensor)
        parts[-1][0].bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=layer.bias.requires_grad)
    return nn.Sequential(*(part for part, _ in parts))
