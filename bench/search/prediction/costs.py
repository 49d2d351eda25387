"""Prices of layers -> prices of choices, which the allocation adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bench.search.nouns import Costs, Group, Layer

Price = Callable[[Layer, int, int], float]
"""(layer, input channels, output channels) -> what it costs."""


def add_up(layers: Sequence[Layer], groups: Sequence[Group], price: Price, constant: float = 0.0) -> Costs:
    """The costs of all layers. Exact for a layer that one or two groups change. One without channels costs nothing.

    For a layer of more groups the saving by each group, the others whole, is added up.
    """
    single: dict[int, NDArray[np.float64]] = {}
    pairs: dict[tuple[int, int], NDArray[np.float64]] = {}

    def cost(layer: Layer, taken: dict[int, int]) -> float:
        gone = {group: groups[group].whole - groups[group].widths[place] for group, place in taken.items()}
        inputs, outputs = layer.inputs.at(gone), layer.outputs.at(gone)
        return price(layer, inputs, outputs) if inputs and outputs else 0.0

    for layer in layers:
        named = layer.groups
        if not named:
            constant += cost(layer, {})
        elif len(named) == 2:
            one, two = named
            shape = (len(groups[one].widths), len(groups[two].widths))
            values = [cost(layer, {one: i, two: j}) for i, j in product(*map(range, shape))]
            pairs[one, two] = pairs.get((one, two), np.zeros(shape)) + np.reshape(values, shape)
        else:
            whole = cost(layer, {}) if len(named) > 1 else 0.0
            constant += whole
            for group in named:
                values = [cost(layer, {group: place}) - whole for place in range(len(groups[group].widths))]
                single[group] = single.get(group, np.zeros(len(values))) + np.array(values)
    return Costs(constant=constant, single=single, pairs=pairs)


def count_weights(layer: Layer, inputs: int, outputs: int) -> float:
    """How many weights a layer has at these widths."""
    depthwise = layer.shape is not None and layer.shape.depthwise
    whole = layer.outputs.whole if depthwise else layer.inputs.whole * layer.outputs.whole
    return layer.weights * (outputs if depthwise else inputs * outputs) / whole
