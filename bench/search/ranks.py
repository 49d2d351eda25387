"""Ranks of layers as something a search chooses: how low each may go, what that is expected to cost, and what takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.compress.interface import Context, Network
from bench.compress.layers import tied_layers, weight_of
from bench.compress.prune.weight_criteria import saliency
from bench.line.probes.cuts import Shape, left_of
from bench.search.nouns import Group, Layer, Side

LEVELS = 6
"""How many ranks below the full one a layer may have at most."""
FIRST, SECOND = " (first factor)", " (second factor)"


def find_ranks(
    network: Network, context: Context, layers: tuple[Layer, ...], channels: int, step: int
) -> tuple[tuple[Group, ...], tuple[Layer, ...]]:
    """A group for the rank of each layer that two smaller ones can take the place of, and all layers, with these factors.

    Linear layers and plain convolutions that are timed as one, of which channels of at most one group go on each side. Ranks are
    multiples of `step`, where the layer is wide enough. `channels`: how many groups come before.
    """
    kept = tied_layers(network.module) | {name.removesuffix(".weight") for name in (*network.masks, *network.clusters)}
    modules = {
        layer.name: module
        for layer in layers
        if layer.shape is not None
        and max(len(layer.inputs.per), len(layer.outputs.per)) <= 1
        and layer.name not in kept
        and _splits(module := network.module.get_submodule(layer.name))
    }
    scores = {} if context.data is None else saliency(network.module, modules, "taylor", context)
    groups: list[Group] = []
    found: list[Layer] = []
    for layer in layers:
        group = _group(layer.name, modules[layer.name], scores, step) if layer.name in modules else None
        if group is None:
            found.append(layer)
            continue
        groups.append(group)
        found += _with_factors(layer, group, channels + len(groups) - 1)
    return tuple(groups), tuple(found)


def _splits(module: nn.Module) -> bool:
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


def _group(name: str, module: nn.Module, scores: Mapping[str, Tensor], step: int) -> Group | None:
    """Ranks up to the largest that makes the layer smaller; None where there is none.

    The loss of a rank is that of the channels: the sum of |weight x gradient|, of what goes from each weight, or without data
    the share of the singular values, over the share of the rank that is left.
    """
    matrix: NDArray[np.float64] = weight_of(module).detach().double().flatten(1).numpy()
    rows, columns = matrix.shape
    full, most = min(rows, columns), (rows * columns - 1) // (rows + columns)
    while step > 1 and full < 4 * step:
        step //= 2
    ranks = sorted({round(most * level / LEVELS / step) * step for level in range(1, LEVELS + 1)})
    ranks = [rank for rank in ranks if 0 < rank <= most]
    if not ranks or not matrix.any():
        return None
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    harm: NDArray[np.float64] | None = None
    if scores:
        seen = scores[name].double().flatten(1).numpy()
        harm = np.divide(seen, np.abs(matrix), out=np.zeros_like(seen), where=matrix != 0)

    def loss(rank: int) -> float:
        if harm is None:
            return float(values[rank:].sum() / values.sum())
        gone = (left[:, rank:] * values[rank:]) @ right[rank:]
        return float((np.abs(gone) * harm).sum())

    losses = (*(loss(rank) * full / rank for rank in ranks), 0.0)
    return Group(layers=(name,), widths=(*ranks, full), losses=losses, rank=True)


def _with_factors(layer: Layer, group: Group, place: int) -> tuple[Layer, Layer, Layer]:
    """The layer, and the two that take its place below the full rank. The first sees the windows, the second single positions."""
    shape, full = layer.shape, group.whole
    assert shape is not None
    behind = shape
    if shape.window:
        ones, zeros = (1,) * len(shape.window), (0,) * len(shape.window)
        behind = Shape(window=left_of(shape), kernel=ones, stride=ones, padding=zeros, dilation=ones)
    rank, weights = Side(whole=full, per={place: 1.0}), layer.weights
    first = replace(layer, name=layer.name + FIRST, outputs=rank, weights=weights * full // layer.outputs.whole)
    second = replace(layer, name=layer.name + SECOND, inputs=rank, weights=full * layer.outputs.whole, shape=behind)
    factors = (replace(first, rank=place, factor=True), replace(second, rank=place, factor=True))
    return replace(layer, rank=place), *factors
