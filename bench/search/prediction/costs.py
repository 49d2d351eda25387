"""Prices of layers -> prices of choices, which the allocation adds up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bench.search.nouns import Costs, Group, Layer, Unless

Price = Callable[[Layer, int, int], float]
"""(layer, input channels, output channels) -> what it costs."""


def add_up(layers: Sequence[Layer], groups: Sequence[Group], price: Price, constant: float = 0.0) -> Costs:
    """The costs of all layers. Exact for a layer that one or two groups change. One without channels costs nothing, and neither
    does one whose factors are there in its place.

    For a layer of more groups the saving by each group, the others whole, is added up.
    """
    single: dict[int, NDArray[np.float64]] = {}
    pairs: dict[tuple[int, int], NDArray[np.float64]] = {}
    unless: list[Unless] = []

    def cost(layer: Layer, taken: Mapping[int, int]) -> float:
        if layer.rank is not None and layer.rank in taken:
            whole = taken[layer.rank] == len(groups[layer.rank].widths) - 1
            if whole == layer.factor:
                return 0.0
        gone = {group: groups[group].whole - groups[group].widths[place] for group, place in taken.items()}
        inputs, outputs = layer.inputs.at(gone), layer.outputs.at(gone)
        return price(layer, inputs, outputs) if inputs and outputs else 0.0

    def table(layer: Layer, one: int, two: int) -> NDArray[np.float64]:
        shape = (len(groups[one].widths), len(groups[two].widths))
        return np.reshape([cost(layer, {one: i, two: j}) for i, j in product(*map(range, shape))], shape)

    for layer in layers:
        named = layer.groups
        by = sorted({*named, *([] if layer.rank is None else [layer.rank])})
        if not by:
            constant += cost(layer, {})
        elif len(by) == 2:
            one, two = by
            pairs[one, two] = pairs.get((one, two), 0.0) + table(layer, one, two)
        elif layer.rank is not None and len(named) == 2:
            one, two = named
            last = len(groups[layer.rank].widths) - 1
            unless.append(Unless(rank=layer.rank, last=last, pair=(one, two), prices=table(layer, one, two)))
        else:
            whole = cost(layer, {}) if len(by) > 1 else 0.0
            constant += whole
            for group in by:
                values = [cost(layer, {group: place}) - whole for place in range(len(groups[group].widths))]
                single[group] = single.get(group, 0.0) + np.array(values)
    return Costs(constant=constant, single=single, pairs=pairs, unless=tuple(unless))


def count_weights(layer: Layer, inputs: int, outputs: int) -> float:
    """How many weights a layer has at these widths."""
    depthwise = layer.shape is not None and layer.shape.depthwise
    whole = layer.outputs.whole if depthwise else layer.inputs.whole * layer.outputs.whole
    return layer.weights * (outputs if depthwise else inputs * outputs) / whole
