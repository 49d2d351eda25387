"""The nouns of a fixed-point design: types, nodes, and the one file that they are kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EXACT_BITS = 53
"""What a double holds without rounding: values and sums of this width are exact in numpy and in the C simulation."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Signed fixed point, `ap_fixed<width, integer>`: `integer` counts the bits before the point with the sign."""

    width: int
    integer: int

    @property
    def fraction(self) -> int:
        """Bits after the point; negative where the grid is coarser than 1."""
        return self.width - self.integer

    @property
    def low(self) -> float:
        """The least value."""
        return float(-(2.0 ** (self.integer - 1)))

    @property
    def high(self) -> float:
        """The greatest value."""
        return float(2.0 ** (self.integer - 1) - 2.0**-self.fraction)

    def quantize(self, values: Array) -> Array:
        """On the grid: rounds half up (AP_RND) and saturates (AP_SAT)."""
        steps = np.floor(np.asarray(values, np.float64) * 2.0**self.fraction + 0.5) * 2.0**-self.fraction
        return np.clip(steps, self.low, self.high)

    def __str__(self) -> str:
        return f"fixed<{self.width},{self.integer}>"


def hold(bound: float, fraction: int) -> Fixed:
    """The narrowest type with `fraction` bits that holds every value up to `bound` in size."""
    whole = math.floor(bound * 2.0**fraction + 0.5)
    integer = whole.bit_length() + 1 - fraction
    return Fixed(integer + fraction, integer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of the network and how it is made. Images have their channels last.

    `name`: unique, safe in C++; `title`: what the user calls it. `kind`: "input", "dense", "conv", "relu", "maxpool",
    "avgpool", "add" or "flatten". `shape`: of one sample. `weight`: (in, out) or (height, width, in, out).
    `window`, `stride`: (height, width); `pads`: top, left, bottom, right.
    `accum`: holds every partial sum exactly. `result`: what the value is rounded to; where `exact`, a type that holds it
    without rounding.
    """

    name: str
    title: str
    kind: str
    inputs: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    weight: Array | None = None
    bias: Array | None = None
    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    weight_type: Fixed | None = None
    bias_type: Fixed | None = None
    accum: Fixed | None = None
    result: Fixed | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A network in the order in which it is computed: the first node is its input, the last its output.

    `input_shape`: of one sample as the model takes it, channels first. `output`: the name of its output in the model.
    """

    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...]
    output: str = "output"

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def users(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.inputs]

    def turn(self, samples: NDArray[Any]) -> Array:
        """Samples as the model takes them (samples, channels, height, width) -> with channels last, in doubles."""
        turned = np.moveaxis(samples, 1, -1) if len(self.input_shape) == 3 else samples
        return np.ascontiguousarray(turned, dtype=np.float64)


TYPES = ("weight_type", "bias_type", "accum", "result")
ARRAYS = ("weight", "bias")


def save(design: Design, path: Path) -> None:
    """One .npz: the structure as JSON, the weights as arrays."""
    arrays: dict[str, Any] = {}
    rows = []
    for node in design.nodes:
        row = {field.name: getattr(node, field.name) for field in fields(node) if field.name not in ARRAYS}
        rows.append({key: _plain(value) for key, value in row.items()})
        for key in ARRAYS:
            if getattr(node, key) is not None:
                arrays[f"{node.name}.{key}"] = getattr(node, key)
    text = json.dumps({"nodes": rows, "input_shape": design.input_shape, "output": design.output})
    np.savez(path, design=np.frombuffer(text.encode(), np.uint8), **arrays)


def load(path: Path) -> Design:
    """Inverse of `save`."""
    with np.load(path, allow_pickle=False) as stored:
        found = json.loads(stored["design"].tobytes())
        nodes = tuple(_node(row, stored) for row in found["nodes"])
    return Design(nodes=nodes, input_shape=tuple(found["input_shape"]), output=found["output"])


def _plain(value: Any) -> Any:
    return [value.width, value.integer] if isinstance(value, Fixed) else value


def _node(row: Mapping[str, Any], stored: Any) -> Node:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    values |= {key: Fixed(*row[key]) for key in TYPES if row[key] is not None}
    values |= {key: stored[f"{row['name']}.{key}"] for key in ARRAYS if f"{row['name']}.{key}" in stored}
    return Node(**values)
