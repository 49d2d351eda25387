"""Replaces standard convolutions by depthwise-separable blocks, each the nearest such block to the original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.compress.arguments import Count
from bench.compress.factorize.chains import biased, chain_of, pointwise
from bench.compress.factorize.factorization import Array
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import tied_layers, weighted_layers
from bench.compress.notes import NOT_SEPARABLE, SEPARABLE, reasons
from bench.compress.replace_layers import TIED, sites, substitute_each
from bench.errors import Unsupported


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Separable(Compressor):
    """Replaces standard convolutions by `multiplier` spatial filters per input channel and a 1x1 convolution.

    The filters are the best approximation of each input channel's kernels: its first `multiplier` singular
    vectors. There is no activation between the two, so the outputs start close: fine-tune or distil afterwards.
    The first convolution stays, as in MobileNet, unless `only` names it. 1x1, grouped and transposed
    convolutions stay, and so do those that would grow. The notes say why.
    """

    name: ClassVar[str] = "separable"
    source: ClassVar[str] = "Howard et al. 2017, MobileNets, arXiv:1704.04861"
    multiplier: Count = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` if there is no convolution to replace, saying why for each, and where the network needs one of `only`."""
        layers = weighted_layers(network.module, only=self.only, skip=self.skip)
        convolutions = {name: layer for name, layer in layers.items() if not isinstance(layer, nn.Linear)}
        found = sites(network.module, weighted_layers(network.module), context.example)
        first = next((name for name, site in found.items() if not isinstance(site.layer, nn.Linear)), "")
        left: dict[str, str] = {}
        tied = tied_layers(network.module)
        for name, layer in convolutions.items():
            reason = "it never runs" if name not in found else self._unfit(layer)
            reason = TIED if name in tied else reason
            if not reason and name == first and name not in self.only:
                reason = "the first convolution stays full"
            if reason:
                left[name] = reason
        chains = {name: self._block(layer) for name, layer in convolutions.items() if name not in left}
        if not chains:
            raise Unsupported(f"{self!r} replaces no layer ({reasons(left) or 'the network has no convolution here'})")
        result, needed = substitute_each(network, chains, context.example)
        if asked := {name: reason for name, reason in needed.items() if name in self.only}:
            raise Unsupported(f"{self!r}: {reasons(asked)}; leave {', '.join(asked)} out")
        done = [name for name in chains if name not in needed]
        return replace(result, notes={**network.notes, SEPARABLE: done, NOT_SEPARABLE: {**left, **needed}})

    def _unfit(self, layer: nn.Module) -> str:
        """Why a convolution stays; "" for one to replace."""
        if type(layer) is not nn.Conv2d:
            return f"{type(layer).__name__} is not a Conv2d"
        if layer.groups > 1:
            return f"a grouped convolution ({layer.groups} groups)"
        outputs, inputs, height, width = layer.weight.shape
        if height * width == 1:
            return "a 1x1 convolution"
        after = inputs * self.multiplier * (height * width + outputs)
        grows = after >= layer.weight.numel()
        return f"it would grow: {layer.weight.numel()} -> {after} weights" if grows else ""

    def _block(self, layer: nn.Module) -> nn.Sequential:
        assert isinstance(layer, nn.Conv2d)
        inputs, middle = layer.in_channels, layer.in_channels * self.multiplier
        spatial, mixing = _nearest(layer.weight.detach(), self.multiplier)
        depthwise = nn.Conv2d(
            inputs,
            middle,
            layer.kernel_size,  # type: ignore[arg-type]  # torch keeps it as a tuple of any length
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=inputs,
            bias=False,
            padding_mode=layer.padding_mode,
        )
        last = pointwise(middle, layer.out_channels, bias=biased(layer))
        return chain_of(layer, (depthwise, spatial), (last, mixing))


def _nearest(weight: Tensor, count: int) -> tuple[Array, Array]:
    """(out, in, h, w) -> (in count, 1, h, w) and (out, in count, 1, 1), with the least squared error."""
    outputs, inputs, height, width = weight.shape
    u, s, v = torch.linalg.svd(weight.double().permute(1, 0, 2, 3).reshape(inputs, outputs, -1), full_matrices=False)
    kept = min(count, s.shape[1])
    root = s[:, :kept].sqrt()
    spatial = torch.zeros(inputs, count, height * width, dtype=torch.float64)
    mixing = torch.zeros(outputs, inputs, count, dtype=torch.float64)
    spatial[:, :kept] = root[:, :, None] * v[:, :kept]
    mixing[:, :, :kept] = (u[:, :, :kept] * root[:, None, :]).permute(1, 0, 2)
    return spatial.reshape(inputs * count, 1, height, width).numpy(), mixing.reshape(outputs, -1, 1, 1).numpy()
