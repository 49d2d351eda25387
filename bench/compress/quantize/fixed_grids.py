"""The grids of a fixed-point design, in torch: what a network computes where weights, biases and values lie on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from bench.compress.layers import distinct, weight_of, weighted_layers
from bench.compress.quantize.activations import trace
from bench.compress.quantize.fixed_graph import FixedGraph, read_graph, running
from bench.errors import Unsupported
from bench.models.copies import duplicate, set_eval
from bench.models.tensors import Inputs
from bench.types import QuantSpec

SEARCHED = 4
"""How many integer bits fewer than the largest value needs are tried, as the FPGA backend tries them."""
WIDE = 64
"""Bits that hold any bias on its grid: a design takes as many as it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """`width`: bits of every value and weight; `weights`: layer -> bits of its weights, where they are others. `integer`:
    value, or `layer:weight` -> bits before the point, with the sign. `sources`: layer -> the value that it reads."""

    width: int
    integer: Mapping[str, int]
    sources: Mapping[str, str]
    weights: Mapping[str, int] = field(default_factory=dict)

    def value(self, name: str, value: Tensor) -> Tensor:
        """On its grid."""
        return on_grid(value, self.width, self.integer[name])

    def parameters(self, module: nn.Module) -> dict[str, Tensor]:
        """Weights on their grids, biases on that of the products that they are added to."""
        found = {}
        for name, layer in used_layers(module, self.sources).items():
            width, integer = self.weights.get(name, self.width), self.integer[f"{name}:weight"]
            found[f"{name}.weight"] = on_grid(weight_of(layer), width, integer)
            if isinstance(layer.bias, nn.Parameter):
                fraction = width - integer + self.width - self.integer[self.sources[name]]
                found[f"{name}.bias"] = on_grid(layer.bias, WIDE, WIDE - fraction)
        return found

    def spec(self, samples: int) -> QuantSpec:
        """What the FPGA is asked for. `samples`: how many calibrate what these grids leave open."""
        return QuantSpec(
            kind="fixed",
            weight_bits=self.width,
            activation_bits=self.width,
            per_channel=False,
            samples=samples,
            ranges=tuple((name, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) for name, bits in self.integer.items()),
            layer_bits=tuple((name, bits) for name, bits in self.weights.items() if bits != self.width),
        )


def fold(step: object, module: nn.Module, example: Inputs) -> tuple[nn.Module, FixedGraph]:
    """A copy whose BatchNorms are in the layers before them, and its graph.

    Raises `Unsupported`, naming the step, for layers that share weights, and as `read_graph`.
    """
    module = set_eval(duplicate(module))
    _fold_norms(module, trace(module, example).norms)
    layers = distinct(weighted_layers(module))
    if len(layers) < len(weighted_layers(module)):
        raise Unsupported(f"{step!r}: layers share their weights, whose grids may differ")
    return module, read_graph(module, example, frozenset(layers))


def used_layers(module: nn.Module, sources: Mapping[str, str]) -> dict[str, nn.Module]:
    """The layers with weights that the network computes with. `sources`: as of `FixedGraph`."""
    return {name: layer for name, layer in weighted_layers(module).items() if name in sources}


class _Rounding(torch.autograd.Function):
    """Half up, saturating; the gradient passes where nothing saturates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: float, high: float) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return (torch.floor(x.double() / step + 0.5) * step).clamp(low, high).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


def on_grid(x: Tensor, width: int, integer: int) -> Tensor:
    """The values of fixed<width,integer>, with straight-through gradients."""
    step = 2.0 ** (integer - width)
    found: Tensor = _Rounding.apply(x, step, -(2.0 ** (integer - 1)), 2.0 ** (integer - 1) - step)  # type: ignore[no-untyped-call]
    return found


def integer_bits(values: Tensor, width: int) -> int:
    """The integer bits, with the sign, of the least mean squared error on `values`; of equals the most."""
    largest = float(values.detach().abs().max())
    if largest == 0.0:
        return 1
    most = math.floor(math.log2(largest)) + 2
    with torch.no_grad():
        errors = {
            bits: float((on_grid(values, width, bits) - values).double().square().mean())
            for bits in range(most, most - SEARCHED, -1)
        }
    return min(errors, key=lambda bits: errors[bits])


def value_bits(module: nn.Module, graph: FixedGraph, inputs: Inputs, width: int) -> dict[str, int]:
    """Name -> integer bits of the values that are rounded, as these inputs give them without any rounding."""
    seen: dict[str, Tensor] = {}

    def see(name: str, value: Tensor) -> Tensor:
        seen.setdefault(name, value.detach())
        return value

    with torch.no_grad(), running(module, graph, see):
        module(*inputs)
    return {name: integer_bits(value, width) for name, value in seen.items()}


def _fold_norms(module: nn.Module, norms: Mapping[str, str]) -> None:
    """Puts each BatchNorm into the layer before it, in place."""
    for layer_name, norm_name in norms.items():
        layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
        fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        _put(module, layer_name, fuse(layer, norm))
        _put(module, norm_name, nn.Identity())


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)
