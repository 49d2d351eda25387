"""Prunes single weights: they become zero and stay zero in later training. Shapes stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from bench.compress import notes
from bench.compress.arguments import Count, Fraction, Positive
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import CONVOLUTIONS, TRANSPOSED, distinct_layers, some_layers, weight_of
from bench.compress.prune.weight_criteria import WeightCriterion, saliency
from bench.errors import InvalidInput, Unsupported
from bench.models.copies import duplicate
from bench.types import Json

Scope = Literal["global", "layer"]


class WeightPruner(Compressor):
    """A step that can set single weights to zero. Later steps make its `sparsity` wrong, so it is measured again."""

    @final
    def renew_notes(self, before: Network, after: Network, step: Compressor) -> Mapping[str, Json]:
        """With the sparsity of `after`, where the step noted one."""
        del before, step
        return note_sparsity(after).notes if notes.SPARSITY in after.notes else after.notes


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prune(WeightPruner):
    """Sets the share `amount` of the weights, those that matter least, to zero. Biases stay.

    `amount` includes what earlier steps pruned. `scope`: one ranking over all layers, or the same share of
    each. `only` and `skip` name layers. `criterion`: see `bench.compress.prune.weight_criteria`.
    """

    name: ClassVar[str] = "prune"
    source: ClassVar[str] = (
        "Han et al. 2015, arXiv:1506.02626; criteria: OBD (1990), arXiv:1611.06440, arXiv:2306.11695"
    )
    amount: Fraction
    criterion: WeightCriterion = "l1"
    scope: Scope = "global"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """Hits `amount` within one weight per ranking. Raises `Unsupported` if a layer would lose all its weights, and as
        `distinct_layers`, as every step here does."""
        layers = some_layers(self, network.module, only=self.only, skip=self.skip)
        scores = saliency(network.module, layers, self.criterion, context)
        return prune_to(network, scores, dict.fromkeys(layers, self.amount), self.scope)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Threshold(WeightPruner):
    """Sets every weight whose magnitude is below `value` to zero. Biases stay."""

    name: ClassVar[str] = "threshold"
    source: ClassVar[str] = "Han et al. 2015, arXiv:1506.02626"
    value: Positive
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` if a layer has no weight that large."""
        del context
        layers = some_layers(self, network.module, only=self.only, skip=self.skip)
        return with_masks(network, {name: weight_of(layer).abs() >= self.value for name, layer in layers.items()})


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NM(WeightPruner):
    """Keeps the `n` most important of every `m` neighbouring weights along the input axis, for example 2:4 sparsity.

    A layer whose number of inputs is not a multiple of `m` stays dense, and the notes name it.
    """

    name: ClassVar[str] = "nm"
    source: ClassVar[str] = "Mishra et al. 2021, Accelerating Sparse Deep Neural Networks, arXiv:2104.08378"
    n: Count = 2
    m: Count = 4
    criterion: WeightCriterion = "l1"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if self.n >= self.m:
            raise InvalidInput(f"nm(n={self.n}, m={self.m}): n must be below m")

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` when `m` divides the inputs of no layer."""
        layers = distinct_layers(network.module, only=self.only, skip=self.skip)
        fitting = {name: layer for name, layer in layers.items() if _inputs(layer) % self.m == 0}
        if not fitting:
            raise Unsupported(f"{self!r}: no layer has a number of input channels that {self.m} divides")
        scores = saliency(network.module, fitting, self.criterion, context)
        ranked = {name: _already_last(network, name, score) for name, score in scores.items()}
        axes = {name: 0 if isinstance(layer, TRANSPOSED) else 1 for name, layer in fitting.items()}
        masks = {name: _largest(score, self.n, self.m, axes[name]) for name, score in ranked.items()}
        pruned = with_masks(network, masks)
        dense = [name for name in layers if name not in fitting]
        return replace(pruned, notes=notes.merged(pruned.notes, notes.NM, {f"{self.n}:{self.m}": dense}))


def pattern(network: Network) -> str:
    """The N:M pattern that an earlier step put into the weights, as `2:4`; "" without one."""
    return next(iter(network.notes.get(notes.NM, {})), "")


def prune_to(network: Network, scores: Mapping[str, Tensor], amounts: Mapping[str, float], scope: str) -> Network:
    """The network with the least important weights of each layer (or of all layers, `scope` "global") at zero.

    `scores`: layer -> saliency of its weights. `amounts`: layer -> share of its weights that is zero afterwards,
    including those masked before.
    """
    ranked = {name: _already_last(network, name, score) for name, score in scores.items()}
    if scope == "global" and len(set(amounts.values())) == 1:
        joined = torch.cat([score.flatten() for score in ranked.values()])
        kept = _keep(joined, next(iter(amounts.values()))).split([score.numel() for score in ranked.values()])
        masks = {name: mask.reshape(ranked[name].shape) for name, mask in zip(ranked, kept, strict=True)}
    else:
        masks = {name: _keep(score, amounts[name]) for name, score in ranked.items()}
    return with_masks(network, masks)


def with_masks(network: Network, keep: Mapping[str, Tensor]) -> Network:
    """A new network whose layers keep only the weights in `keep` that are not masked already.

    `keep`: layer -> True or 1 for each weight to keep. Raises `Unsupported` naming a layer that would lose all
    its weights.
    """
    module = duplicate(network.module)
    masks = dict(network.masks)
    for name, mask in keep.items():
        weight = weight_of(module.get_submodule(name))
        both = mask.to(weight.dtype) * masks.get(f"{name}.weight", torch.ones_like(weight))
        if not bool(both.any()):
            raise Unsupported(f"layer {name!r} would lose all its {mask.numel()} weights; prune less, or skip it")
        masks[f"{name}.weight"] = both
        weight.data.mul_(both)
    return note_sparsity(replace(network, module=module, masks=masks))


def note_sparsity(network: Network) -> Network:
    """The same network, its notes saying how sparse it is now."""
    return replace(network, notes={**network.notes, notes.SPARSITY: sparsity(network.module)})


def sparsity(module: nn.Module) -> float:
    """The share of all weights, without biases, that is zero, 0 to 1."""
    weights = [weight_of(layer) for layer in distinct_layers(module).values()]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return round(zeros / sum(weight.numel() for weight in weights), 6)


def _already_last(network: Network, name: str, score: Tensor) -> Tensor:
    """Ranks masked weights below all others, so that pruning again does not keep them."""
    mask = network.masks.get(f"{name}.weight")
    return score if mask is None else torch.where(mask > 0, score, -1.0)


def _keep(scores: Tensor, amount: float) -> Tensor:
    """True for all but the round(amount x count) smallest. Of equal scores the first ones go."""
    flat = scores.flatten()
    count = round(amount * flat.numel())
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    limit = flat.kthvalue(count).values
    keep = flat > limit
    ties = (flat == limit).nonzero().flatten()
    keep[ties[count - int((flat < limit).sum()) :]] = True
    return keep.reshape(scores.shape)


def _inputs(layer: nn.Module) -> int:
    """How many input channels each of the layer's outputs sums over."""
    if isinstance(layer, CONVOLUTIONS):
        return int(layer.in_channels) // int(layer.groups)
    return weight_of(layer).shape[1]


def _largest(score: Tensor, n: int, m: int, axis: int) -> Tensor:
    """True for the n largest of each m neighbours along `axis`."""
    last = score.transpose(axis, -1)
    groups = last.reshape(-1, m)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, groups.topk(n, dim=1).indices, value=True)
    return mask.reshape(last.shape).transpose(axis, -1)
