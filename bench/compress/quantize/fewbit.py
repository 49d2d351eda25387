"""Ternary and binary weights: trained through their rounding, with scales, and counted at their bit width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from bench.compress.arguments import Count, Fraction, Positive, Within
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import TRANSPOSED, distinct_layers, weighted_layers
from bench.compress.notes import BITS, PACKED_BYTES, WEIGHT_BITS
from bench.compress.quantize.straight_through import fit_replaced, straight_through
from bench.compress.replace_layers import sites
from bench.errors import Unsupported
from bench.models.copies import duplicate
from bench.models.training.constraints import next_cluster
from bench.types import Json

Scale = Literal["filter", "layer", "none"]
"""Which weights share a scale: those of an output channel, those of a layer, or "none": every scale is 1."""
COUNTS = (WEIGHT_BITS, PACKED_BYTES)
"""The notes that count a network in bits."""
CLIP = 1.0
"""Real weights stay within -1 to 1 (Courbariaux et al. 2015, section 2.4). Larger ones would never change sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """A weight in few levels: `signs` (-1, 0 or 1) times `scales`, both of the weight's shape."""

    signs: Tensor
    scales: Tensor

    @property
    def values(self) -> Tensor:
        """The weights that inference uses."""
        return self.signs * self.scales


class FewBits(Compressor):
    """A step that notes how many bits its weights take. Those notes expire when a later step changes the weights."""

    @final
    def renew_notes(self, before: Network, after: Network, step: Compressor) -> Mapping[str, Json]:
        """Keeps the counts of `before` if `step` did not change the counted weights; else drops them and says why.

        Training moves a and -a apart and sharing puts other values in their place: these bits and scales no
        longer describe the weights. A later step of this kind has counted for itself.
        """
        counts = {key: before.notes[key] for key in COUNTS if key in before.notes}
        if not counts or isinstance(step, FewBits):
            return after.notes
        old, new = (dict(found.module.named_parameters()) for found in (before, after))
        same = {name: value.shape for name, value in old.items()} == {name: value.shape for name, value in new.items()}
        if same and all(torch.equal(old[f"{name}.weight"], new[f"{name}.weight"]) for name in counts[WEIGHT_BITS]):
            return {**after.notes, **counts}
        left = {key: value for key, value in after.notes.items() if key not in COUNTS}
        return {**left, BITS: f"{step!r} changed the weights that were counted in bits"}


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ternary(FewBits):
    """Trains weights that are -a, 0 or a: 0 below `threshold` times the mean magnitude, and a the mean of the others.

    Real weights learn through the rounding and are dropped afterwards. Biases and BatchNorm stay real.
    `scale`: which weights share an a. `float_ends` leaves the first and the last layer real, as the paper does;
    `skip` names others. `alpha` below 1 distils from the uncompressed model as distill does. The files hold the
    values as float32. The notes count 2 bits a weight until a later step changes these weights.
    """

    name: ClassVar[str] = "ternary"
    source: ClassVar[str] = "Li & Liu 2016, Ternary Weight Networks, arXiv:1605.04711, section 2"
    trains: ClassVar[bool] = True
    epochs: Count = 5
    learning_rate: Positive = 1e-3
    threshold: Fraction = 0.7
    scale: Scale = "filter"
    float_ends: bool = False
    skip: tuple[str, ...] = ()
    alpha: Annotated[float, Within(low=0, high=1)] = 1.0
    temperature: Positive = 4.0

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, and if no layer is left to round."""
        layers = _chosen(self, network, context, float_ends=self.float_ends, skip=self.skip)
        return _train_levels(
            self, network, context, layers, partial(ternary, threshold=self.threshold, scale=self.scale), 2
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Binary(FewBits):
    """Trains weights that are -a or a, where a is the mean magnitude.

    Real weights learn through the rounding and are dropped afterwards. Biases and BatchNorm stay real.
    `scale`: which weights share an a ("none": a is 1, as in BinaryConnect). `float_ends` leaves the first and
    the last layer real, as XNOR-Net does; `skip` names others. `alpha` below 1 distils from the uncompressed
    model as distill does. The files hold the values as float32. The notes count 1 bit a weight until a later
    step changes these weights.
    """

    name: ClassVar[str] = "binary"
    source: ClassVar[str] = (
        "Courbariaux et al. 2015, BinaryConnect, arXiv:1511.00363; scales: Rastegari et al. 2016, XNOR-Net, "
        "arXiv:1603.05279, section 3.1"
    )
    trains: ClassVar[bool] = True
    epochs: Count = 5
    learning_rate: Positive = 1e-3
    scale: Scale = "filter"
    float_ends: bool = False
    skip: tuple[str, ...] = ()
    alpha: Annotated[float, Within(low=0, high=1)] = 1.0
    temperature: Positive = 4.0

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, if no layer is left to round, and for pruned layers."""
        layers = _chosen(self, network, context, float_ends=self.float_ends, skip=self.skip)
        for name in layers:
            if f"{name}.weight" in network.masks:
                raise Unsupported(f"{self!r}: layer {name!r} is pruned and binary weights have no zero; take ternary")
        return _train_levels(self, network, context, layers, partial(binary, scale=self.scale), 1)


def ternary(weight: Tensor, axis: int, *, threshold: float, scale: Scale) -> Levels:
    """The nearest a * {-1, 0, 1} with the threshold `threshold` * mean |W| (Li & Liu 2016, eq. 5 and 6).

    `axis`: that of the output channels.
    """
    magnitude = weight.detach().abs()
    shared = _shared(weight, axis, scale)
    kept = magnitude > threshold * magnitude.mean(dim=shared, keepdim=True)
    count = kept.sum(dim=shared, keepdim=True).clamp(min=1)
    mean = (magnitude * kept).sum(dim=shared, keepdim=True) / count
    return Levels(signs=weight.detach().sign() * kept, scales=_scales(mean, weight, scale))


def binary(weight: Tensor, axis: int, *, scale: Scale) -> Levels:
    """The nearest a * {-1, 1}; 0 counts as positive (Rastegari et al. 2016, eq. 6). `axis`: that of the output channels."""
    values = weight.detach()
    mean = values.abs().mean(dim=_shared(weight, axis, scale), keepdim=True)
    return Levels(signs=torch.where(values < 0, -1.0, 1.0), scales=_scales(mean, weight, scale))


def _shared(weight: Tensor, axis: int, scale: Scale) -> list[int]:
    return [dim for dim in range(weight.dim()) if scale != "filter" or dim != axis]


def _scales(mean: Tensor, weight: Tensor, scale: Scale) -> Tensor:
    return torch.ones_like(weight) if scale == "none" else mean.expand_as(weight)


def _chosen(
    step: Compressor, network: Network, context: Context, *, float_ends: bool, skip: tuple[str, ...]
) -> dict[str, nn.Module]:
    """The layers to round. `float_ends` leaves out those that run first and last, in whatever order they are defined."""
    layers = distinct_layers(network.module, skip=skip)
    ran = list(sites(network.module, weighted_layers(network.module), context.example)) if float_ends else []
    chosen = {name: layer for name, layer in layers.items() if name not in (*ran[:1], *ran[-1:])}
    if not chosen:
        raise Unsupported(f"{step!r}: no layer is left to round")
    return chosen


def _train_levels(
    step: Any,
    network: Network,
    context: Context,
    layers: Mapping[str, nn.Module],
    levels: Callable[[Tensor, int], Levels],
    bits: int,
) -> Network:
    """Trains, puts the rounded weights in place, and shares them, so that later training keeps their number of values."""
    module = duplicate(network.module)
    axes = {f"{name}.weight": 1 if isinstance(layer, TRANSPOSED) else 0 for name, layer in layers.items()}
    real = replace(network, clusters={key: value for key, value in network.clusters.items() if key not in axes})

    def rounded(module: nn.Module) -> dict[str, Tensor]:
        weights = {key: module.get_parameter(key) for key in axes}
        return {key: straight_through(w, levels(w, axes[key]).values, CLIP) for key, w in weights.items()}

    @torch.no_grad()
    def clip(module: nn.Module) -> None:
        for key in axes:
            module.get_parameter(key).clamp_(-CLIP, CLIP)

    clip(module)
    fit_replaced(step, module, real, context, rounded, after_step=clip)
    notes = {**network.notes, **_counted(module, axes, bits, step.scale)}
    rounds = {key: levels(module.get_parameter(key), axis) for key, axis in axes.items()}
    return _shared_levels(replace(real, module=module, notes=notes), rounds, axes, step.scale)


def _shared_levels(network: Network, found: Mapping[str, Levels], axes: Mapping[str, int], scale: Scale) -> Network:
    """Puts these levels into the network's own module, each value of a filter (or layer) as a cluster, zeros masked."""
    masks, clusters = dict(network.masks), dict(network.clusters)
    for key, level in found.items():
        network.module.get_parameter(key).data.copy_(level.values)
        clusters[key] = _clusters(level, axes[key], scale, next_cluster(clusters))
        if bool((level.signs == 0).any()):
            masks[key] = (level.signs != 0).to(level.values.dtype)
    return replace(network, masks=masks, clusters=clusters)


def _clusters(levels: Levels, axis: int, scale: Scale, first: int) -> Tensor:
    """A cluster for each value of each filter (or of the layer), numbered from `first`. Zeros are in no cluster."""
    signs = levels.signs
    group = torch.zeros((), dtype=torch.int64)
    if scale == "filter":
        group = torch.arange(signs.shape[axis]).reshape([-1 if dim == axis else 1 for dim in range(signs.dim())])
    return torch.where(signs == 0, -1, first + 2 * group + (signs > 0))


def _counted(module: nn.Module, axes: Mapping[str, int], bits: int, scale: Scale) -> dict[str, Any]:
    """The notes: bits of a weight by layer, and bytes of all parameters with these weights packed and float32 scales."""
    packed = 0
    for name, parameter in module.named_parameters():
        if name not in axes:
            packed += 4 * parameter.numel()
            continue
        scales = {"filter": parameter.shape[axes[name]], "layer": 1, "none": 0}[scale]
        packed += -(-parameter.numel() * bits // 8) + 4 * scales
    layers = {name.removesuffix(".weight"): bits for name in axes}
    return {WEIGHT_BITS: layers, PACKED_BYTES: packed}
