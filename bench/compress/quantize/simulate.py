"""Simulates int8 inference in torch: the same network with activations and weights rounded to their grids.

The grids are those the runtimes get. Weights are symmetric, with one scale per output channel or per tensor.
Activations have 256 steps over their range. Symmetric ones have zero at the bottom where nothing is negative,
else in the middle, as ONNX Runtime's and LiteRT's CPU kernels expect. TensorRT's int8 always has zero in the
middle, so it has half as many steps for the output of a ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.layers import NORMS, TRANSPOSED, distinct, weight_of, weighted_layers
from bench.compress.quantize.activations import Activation, Traced
from bench.compress.quantize.straight_through import straight_through
from bench.errors import InvalidInput
from bench.models.tensors import as_tensors

CALIBRATION_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How values are rounded. Activations have 8 bits.

    `per_channel`: each output channel has a weight scale of its own. `symmetric`: of activations.
    """

    weight_bits: int = 8
    per_channel: bool = True
    symmetric: bool = True


@dataclass(slots=True, kw_only=True)
class Ranges:
    """Ranges of activations by name, filled as values pass.

    `momentum` 0: a range widens to hold everything seen. Above 0: each batch moves it by that share towards its
    own range (Jacob et al. 2018, section 3.1).
    """

    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    momentum: float = 0.0

    def observe(self, activation: Activation, x: Tensor) -> None:
        """Takes one batch into account. 0 is always in the range. Raises `InvalidInput` for NaN or infinite values."""
        low, high = (float(value) for value in x.detach().aminmax())
        if not math.isfinite(low) or not math.isfinite(high):
            raise InvalidInput(f"activation {activation.name!r} becomes NaN or infinite: no int8 range holds it")
        low, high = min(max(low, activation.low), 0.0), max(min(high, activation.high), 0.0)
        if activation.name in self.seen:
            old = self.seen[activation.name]
            if self.momentum:
                low, high = (was + self.momentum * (now - was) for was, now in zip(old, (low, high), strict=True))
            else:
                low, high = min(low, old[0]), max(high, old[1])
        self.seen[activation.name] = (low, high)


def calibrate(module: nn.Module, traced: Traced, samples: Sequence[np.ndarray]) -> Ranges:
    """Minima and maxima of every float32 activation over the samples: an array (N, ...) for each input."""
    ranges = Ranges()
    with torch.no_grad(), meeting(module, traced, ranges.observe, replace=False):
        for start in range(0, len(samples[0]), CALIBRATION_BATCH):
            module(*as_tensors(one[start : start + CALIBRATION_BATCH] for one in samples))
    return ranges


@contextmanager
def simulated(module: nn.Module, traced: Traced, ranges: Ranges, layers: frozenset[str], grid: Grid) -> Iterator[None]:
    """While open, rounds those activations of `module` that are int8 when `layers` are int8.

    In training mode the ranges follow the values that pass. Weights: see `rounded_weights`.
    """

    def quantize(activation: Activation, x: Tensor) -> Tensor:
        if not (activation.pinned or activation.layers & layers):
            return x
        if module.training:
            ranges.observe(activation, x)
        return rounded(x, *ranges.seen[activation.name], symmetric=grid.symmetric)

    with meeting(module, traced, quantize, replace=True):
        yield


def rounded_weights(module: nn.Module, layers: frozenset[str], traced: Traced, grid: Grid) -> dict[str, Tensor]:
    """Parameter name -> its rounded weight, with straight-through gradients, for `torch.func.functional_call`.

    The grid is that of the weight with BatchNorm folded in, because runtimes quantize that weight.
    """
    found = {}
    chosen = {name: layer for name, layer in weighted_layers(module).items() if name in layers}
    for name, layer in distinct(chosen).items():
        factor = None
        if name in traced.norms and not grid.per_channel:
            factor = _folded(module.get_submodule(traced.norms[name]))
        axis = 1 if isinstance(layer, TRANSPOSED) else 0
        found[f"{name}.weight"] = round_weight(weight_of(layer), grid, axis=axis, factor=factor)
    return found


def round_weight(weight: Tensor, grid: Grid, *, axis: int = 0, factor: Tensor | None = None) -> Tensor:
    """The nearest of 2^bits - 1 levels around 0. The gradient passes unchanged (Bengio et al. 2013).

    `axis`: that of the output channels. `factor`: what a later operation multiplies each output channel by. It
    changes a grid with one scale per tensor; with one per channel, scale and factor cancel.
    """
    most = 2 ** (grid.weight_bits - 1) - 1
    values = weight.detach()
    shape = [-1 if dim == axis else 1 for dim in range(weight.dim())]
    widths = torch.ones(()) if factor is None else torch.where(factor == 0, 1.0, factor).reshape(shape)
    scaled = values * widths
    magnitude = scaled.abs().amax(dim=[dim for dim in range(weight.dim()) if dim != axis], keepdim=True)
    scale = magnitude / most if grid.per_channel else magnitude.max() / most
    scale = torch.where(scale > 0, scale, 1.0)
    on_grid = (scaled / scale).round().clamp(-most, most) * scale / widths
    return straight_through(weight, on_grid)


def rounded(x: Tensor, low: float, high: float, *, symmetric: bool) -> Tensor:
    """The values on a grid of 256 steps over low <= 0 <= high. Values outside are clipped and pass no gradient."""
    if high - low < torch.finfo(torch.float32).tiny:
        return x * 0.0
    if symmetric and low < 0:
        scale, zero = max(-low / 128, high / 127), 128
    else:
        scale = (high - low) / 255
        zero = round(-low / scale)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)


def _folded(norm: nn.Module) -> Tensor:
    """The factor by which a BatchNorm in eval mode multiplies each channel."""
    assert isinstance(norm, NORMS)
    assert norm.running_var is not None
    spread = (norm.running_var + norm.eps).sqrt()
    folded: Tensor = 1 / spread if norm.weight is None else norm.weight.detach() / spread
    return folded


@contextmanager
def meeting(module: nn.Module, traced: Traced, see: Any, *, replace: bool) -> Iterator[None]:
    """Calls `see(activation, x)` at every activation. With `replace`, what it returns takes the activation's place."""

    def entering(activation: Activation, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        place = activation.place
        changed = see(activation, inputs[place])
        return (*inputs[:place], changed, *inputs[place + 1 :]) if replace else None

    def leaving(activation: Activation, _: nn.Module, __: Any, output: Any) -> Any:
        changed = see(activation, output)
        return changed if replace else None

    parts = [(module.get_submodule(activation.module), activation) for activation in traced.activations]
    with hooked(
        [(part, partial(leaving, activation)) for part, activation in parts if not activation.enters],
        entering=[(part, partial(entering, activation)) for part, activation in parts if activation.enters],
    ):
        yield
