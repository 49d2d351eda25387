"""How much channels matter: one score, 0 or more, for every set of channels that must go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.interface import Context
from bench.compress.layers import CONVOLUTIONS, NORMS, WEIGHTED, weight_of
from bench.compress.prune.weight_criteria import BATCH, saliency, samples
from bench.errors import Unsupported

ChannelCriterion = Literal["l1", "l2", "random", "taylor", "hessian", "activation", "apoz", "bn_scale"]

Clamp = tuple[float, float]
"""The least and the largest value that the activation after a module lets through."""
EVERYTHING: Clamp = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A module of a group that loses channels together. Its channel `indices[i]` goes with the root's channel `roots[i]`."""

    module: nn.Module
    indices: tuple[int, ...]
    roots: tuple[int, ...]


def channel_scores(
    module: nn.Module,
    groups: list[list[Member]],
    criterion: ChannelCriterion,
    context: Context,
    clamps: Mapping[nn.Module, Clamp],
) -> list[Tensor]:
    """For each group, the scores of its root's channels: the mean over its members, comparable between groups.

    BatchNorm's scales are comparable as they are. For every other criterion each member's scores are scaled to
    a mean of 1.

    - l1, l2: norm of the filter. random: uniform, seeded. bn_scale: |gamma| (Liu et al. 2017).
    - taylor, hessian: the sum of the filter's weight saliencies (`bench.compress.prune.weight_criteria`).
    - activation: mean of |output|, after the ReLU in `clamps` if one follows.
    - apoz: share of positive outputs (1 - APoZ, Hu et al. 2016).

    activation and apoz look at the output of BatchNorm where there is one.
    Raises `Unsupported` where BatchNorm or data is missing.
    """
    chosen = [[part for part in group if isinstance(part.module, _kinds(group, criterion))] for group in groups]
    for group, parts in zip(groups, chosen, strict=True):
        if not parts:
            kinds = sorted({type(part.module).__name__ for part in group})
            raise Unsupported(f"criterion {criterion!r} needs BatchNorm after every layer; found only {kinds}")
    modules = list(dict.fromkeys(part.module for parts in chosen for part in parts))
    values = _per_module(module, modules, criterion, context, clamps)
    if criterion != "bn_scale":
        values = {layer: _relative(scores) for layer, scores in values.items()}
    found = [_combine(parts, values) for parts in chosen]
    return found if criterion == "bn_scale" else [_relative(scores) for scores in found]


def _kinds(group: list[Member], criterion: str) -> tuple[type[nn.Module], ...]:
    if criterion == "bn_scale":
        return NORMS
    normed = any(isinstance(part.module, NORMS) for part in group)
    return NORMS if criterion in ("activation", "apoz") and normed else WEIGHTED


def _combine(parts: list[Member], values: dict[nn.Module, Tensor]) -> Tensor:
    size = max(max(part.roots) for part in parts) + 1
    total, count = torch.zeros(size), torch.zeros(size)
    for part in parts:
        roots = torch.tensor(part.roots)
        total.index_add_(0, roots, values[part.module][torch.tensor(part.indices)].float())
        count.index_add_(0, roots, torch.ones(len(roots)))
    return total / count.clamp(min=1)


def _relative(scores: Tensor) -> Tensor:
    return scores / scores.mean().clamp(min=1e-30)


def _per_module(
    module: nn.Module,
    modules: list[nn.Module],
    criterion: str,
    context: Context,
    clamps: Mapping[nn.Module, Clamp],
) -> dict[nn.Module, Tensor]:
    if criterion == "bn_scale":
        return {layer: weight_of(layer).detach().abs() for layer in modules}
    if criterion in ("activation", "apoz"):
        return _activity(module, modules, criterion, context, clamps)
    if criterion == "random":
        generator = torch.Generator().manual_seed(context.seed)
        return {layer: torch.rand(len(_filters(layer, weight_of(layer))), generator=generator) for layer in modules}
    if criterion == "l2":
        return {layer: _filters(layer, weight_of(layer).detach()).norm(dim=1) for layer in modules}
    names = {layer: name for name, layer in module.named_modules()}
    scores = saliency(module, {names[layer]: layer for layer in modules}, criterion, context)
    return {layer: _filters(layer, scores[names[layer]]).sum(1) for layer in modules}


def _filters(layer: nn.Module, weight: Tensor) -> Tensor:
    """The weights of each output channel as a row. A transposed weight has those of one group on axis 1."""
    if isinstance(layer, CONVOLUTIONS) and layer.transposed:
        weight = weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def _activity(
    module: nn.Module,
    modules: list[nn.Module],
    criterion: str,
    context: Context,
    clamps: Mapping[nn.Module, Clamp],
) -> dict[nn.Module, Tensor]:
    sums: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        axis = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        rows = output.detach().transpose(axis, -1).flatten(0, -2)
        if criterion == "apoz":
            mean = (rows > 0).float().mean(0)
        else:
            mean = rows.clamp(*clamps.get(layer, EVERYTHING)).abs().mean(0)
        sums[layer] = sums.get(layer, torch.zeros(())) + mean * len(output)

    inputs, targets = samples(context, criterion)
    with torch.no_grad(), hooked((layer, record) for layer in modules):
        for chunk in zip(*(one.split(BATCH) for one in inputs), strict=True):
            module(*chunk)
    return {layer: total / len(targets) for layer, total in sums.items()}
