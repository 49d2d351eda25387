"""Which operator of a converted file is which layer of the network it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.tflite.graph import Operator, describe, open_plain, weight

Weights = NDArray[np.float64]

LIKENESS = 0.999
"""Cosine between a layer's weights before and in the file, above which they are the same layer."""
INPUTS_TURNED = ("channels_last", "channels_last_io")
"""Layouts of a file that takes images as NHWC; of the second one 4-D outputs are NHWC too."""
NOISE = 1e-9
"""A channel this much shorter than the longest is not compared: training decayed it, folding rounded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A float file. `layers`: operator index -> layer. `layout`: what a session has to know (see `LitertSession`).

    `other_names`: further names of layers (a node of the ONNX file) -> layer.
    `checked_against`: the runtime whose outputs the file's were compared with, "" for none.
    """

    path: Path
    layers: Mapping[int, str]
    layout: str
    other_names: Mapping[str, str] = field(default_factory=dict)
    checked_against: str = ""


def match_layers(path: Path, weights: Mapping[str, NDArray[np.generic]]) -> dict[int, str]:
    """Operator index -> layer, found by the weights themselves, since names do not survive conversion.

    `weights`: parameters by name, output channels first; the layer of `conv1.weight` is `conv1`. Folding
    a BatchNorm scales each output channel, so channels are compared at unit length and without sign.
    Among equals the first unused, in the order given, is taken.
    """
    interpreter = open_plain(path)
    known = {name.removesuffix(".weight"): _known_rows(array) for name, array in weights.items() if array.ndim >= 2}
    free = list(known)
    found: dict[int, str] = {}
    for operator in describe(interpreter).weighted():
        rows = _unit(_file_rows(operator, weight(interpreter, operator).astype(np.float64)))
        name = next((name for name in free if any(_are_alike(table, rows) for table in known[name])), None)
        if name is not None:
            found[operator.index] = name
            free.remove(name)
    return found


def _known_rows(array: NDArray[np.generic]) -> tuple[Weights, Weights]:
    """One row an output channel; second, with the first two axes swapped, as transposed layers store them."""
    straight = np.asarray(array, dtype=np.float64)
    return _unit(_rows(straight)), _unit(_rows(np.swapaxes(straight, 0, 1)))


def _rows(array: Weights) -> Weights:
    """(out channels, everything else in the file's order: input channels last)."""
    moved = np.moveaxis(array, 1, -1) if array.ndim > 2 else array
    return moved.reshape(array.shape[0], -1)


def _file_rows(operator: Operator, array: Weights) -> Weights:
    if operator.kind == "DEPTHWISE_CONV_2D":  # (1, h, w, channels)
        return np.moveaxis(array, -1, 0).reshape(array.shape[-1], -1)
    return array.reshape(array.shape[0], -1)


def _unit(rows: Weights) -> Weights:
    """Scales rows to length 1. A row that is tiny beside the others becomes 0: its rounding errors are noise."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    alive = length > NOISE * length.max(initial=0.0)
    unit: Weights = np.divide(rows, length, out=np.zeros_like(rows), where=alive)
    return unit


def _are_alike(left: Weights, right: Weights) -> bool:
    """Whether every channel that lives in both points the same way."""
    if left.shape != right.shape:
        return False
    alive = left.any(axis=1) & right.any(axis=1)
    return bool((np.abs((left * right).sum(axis=1))[alive] > LIKENESS).all())
