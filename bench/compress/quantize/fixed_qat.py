"""Quantization-aware training for fixed point: the network learns on the very grid that the FPGA computes on."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from bench.compress.arguments import Count, Positive, Within
from bench.compress.calibration import drawn
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import distinct, weight_of, weighted_layers
from bench.compress.quantize.activations import trace
from bench.compress.quantize.fixed_graph import FixedGraph, read_graph, running
from bench.compress.quantize.straight_through import fit_replaced
from bench.compress.train.finetune import training_data
from bench.errors import Unsupported
from bench.models.tensors import as_tensors
from bench.types import QuantSpec

SEARCHED = 4
"""How many integer bits fewer than the largest value needs are tried, as the FPGA backend tries them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FixedQat(Compressor):
    """Trains on in fixed point of `width` bits; the FPGA then computes with the trained grids.

    Integer bits are chosen once, for each tensor, by the least squared error on `samples` inputs. Weights, biases and
    activations round half up and saturate; gradients pass straight through where nothing saturates. BatchNorm is folded
    into the layer before it first, and dropout is off. The trained network is the FPGA's to the bit, residual sums and
    averages included, as far as sums fit in the 24 bits of a float32. `alpha` below 1 distils from the uncompressed
    model as distill does.
    """

    name: ClassVar[str] = "fixed_qat"
    source: ClassVar[str] = (
        "Coelho et al. 2021, arXiv:2006.10159; straight-through: Bengio et al. 2013, arXiv:1308.3432"
    )
    trains: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    epochs: Count = 10
    learning_rate: Positive = 1e-3
    width: Annotated[int, Within(low=2, high=18)] = 6
    samples: Count = 256
    alpha: Annotated[float, Within(low=0, high=1)] = 1.0
    temperature: Positive = 4.0

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, or if torch.export cannot trace the network."""
        data = training_data(self, context)
        module = copy.deepcopy(network.module).eval()
        _fold_norms(module, trace(module, context.example).norms)
        layers = distinct(weighted_layers(module))
        if len(layers) < len(weighted_layers(module)):
            raise Unsupported(f"{self!r}: layers share their weights, whose grids may differ")
        graph = read_graph(module, context.example, frozenset(layers))
        bits = {f"{name}:weight": integer_bits(weight_of(layer), self.width) for name, layer in layers.items()}
        seen = _gather(module, graph, as_tensors(drawn(data, self.samples, context.seed)))
        bits |= {name: integer_bits(values, self.width) for name, values in seen.items()}
        rounded = partial(self._rounded, bits, graph.sources)
        with running(module, graph, lambda name, value: on_grid(value, self.width, bits[name])):
            fit_replaced(self, module, network, context, rounded)
        with torch.no_grad():
            for name, value in rounded(module).items():
                module.get_parameter(name).copy_(value)
        ranges = tuple((name, -(2.0 ** (count - 1)), 2.0 ** (count - 1)) for name, count in bits.items())
        spec = QuantSpec(
            kind="fixed",
            weight_bits=self.width,
            activation_bits=self.width,
            per_channel=False,
            samples=self.samples,
            ranges=ranges,
        )
        return replace(network, module=module, quant=spec)

    def _rounded(self, bits: Mapping[str, int], sources: Mapping[str, str], module: nn.Module) -> dict[str, Tensor]:
        """Weights on their grids, biases on that of the products that they are added to."""
        found = {}
        for name, layer in weighted_layers(module).items():
            weight, integer = weight_of(layer), bits[f"{name}:weight"]
            found[f"{name}.weight"] = on_grid(weight, self.width, integer)
            if isinstance(layer.bias, nn.Parameter):
                fraction = 2 * self.width - integer - bits[sources[name]]
                found[f"{name}.bias"] = on_grid(layer.bias, 32, 32 - fraction)
        return found


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


def _gather(module: nn.Module, graph: FixedGraph, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Name -> the values that are rounded, for these inputs, without any rounding."""
    seen: dict[str, Tensor] = {}

    def see(name: str, value: Tensor) -> Tensor:
        seen.setdefault(name, value.detach())
        return value

    with torch.no_grad(), running(module, graph, see):
        module(*inputs)
    return seen


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
