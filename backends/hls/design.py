"""The nouns of a fixed-point design: types, nodes, and the one file that they are kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
INPUT = "the input"
"""The title of a network's input: no layer is called so, and one may be called `input`."""
EXACT_BITS = 53
"""What a double holds without rounding: values and sums of this width are exact in numpy and in the C simulation."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Fixed point, `ap_fixed<width, integer>`: `integer` counts the bits before the point, with the sign if `signed`.

    `symmetric`: without the least value, as QONNX calls a narrow range. `rounding`: "half_up" (AP_RND), "half_even"
    (AP_RND_CONV) or "floor" (AP_TRN). Values beyond the ends saturate.
    """

    width: int
    integer: int
    signed: bool = True
    symmetric: bool = False
    rounding: str = "half_up"

    @property
    def fraction(self) -> int:
        """Bits after the point; negative where the grid is coarser than 1."""
        return self.width - self.integer

    @property
    def step(self) -> float:
        """The distance of two values."""
        return float(2.0**-self.fraction)

    @property
    def low(self) -> float:
        """The least value."""
        least = -(2.0 ** (self.integer - 1)) if self.signed else 0.0
        return float(least + self.step if self.symmetric else least)

    @property
    def high(self) -> float:
        """The greatest value."""
        return float(2.0 ** (self.integer - self.signed) - self.step)

    def quantize(self, values: Array) -> Array:
        """On the grid: rounded, and beyond the ends the nearest end."""
        steps = np.asarray(values, np.float64) * 2.0**self.fraction
        match self.rounding:
            case "half_even":
                steps = np.round(steps)
            case "floor":
                steps = np.floor(steps)
            case _:
                steps = np.floor(steps + 0.5)
        return np.clip(steps * self.step, self.low, self.high)

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.integer}>"


def hold(bound: float, fraction: int) -> Fixed:
    """The narrowest type with `fraction` bits that holds every value up to `bound` in size."""
    whole = math.floor(bound * 2.0**fraction + 0.5)
    integer = whole.bit_length() + 1 - fraction
    return Fixed(integer + fraction, integer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of the network and how it is made. Images have their channels last.

    `name`: unique, safe in C++; `title`: what the user calls it. `kind`: "input", "dense", "conv", "relu", "maxpool",
    "avgpool", "add", "flatten", "scale" (times `factor` plus `shift`, one of each for a channel) or "sign" (1 from 0 on,
    else -1). `shape`: of one sample. `weight`: (in, out) or (height, width, in, out).
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
    factor: Array | None = None
    shift: Array | None = None
    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    weight_type: Fixed | None = None
    bias_type: Fixed | None = None
    accum: Fixed | None = None
    result: Fixed | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What is done to a sample before it enters the FPGA: times `factor` plus `shift`, then its sign if `sign`."""

    factor: float
    shift: float
    sign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A network in the order in which it is computed: the first node is its input, the last its output.

    `input_shape`: of one sample as the model takes it, channels first unless `channels_last`. `output`: the name of its
    output in the model. `entry`: of a network whose file quantizes its input. `from_file`: its types came with the file.
    """

    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...]
    output: str = "output"
    channels_last: bool = False
    entry: Entry | None = None
    from_file: bool = False

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def users(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.inputs]

    def turn(self, samples: NDArray[Any]) -> Array:
        """Samples as the model takes them (samples, *input_shape) -> as they enter: channels last, in doubles."""
        image = len(self.input_shape) == 3 and len(self.nodes[0].shape) == 3
        turned = np.moveaxis(samples, 1, -1) if image and not self.channels_last else samples
        entering = np.ascontiguousarray(turned, dtype=np.float64).reshape(len(samples), *self.nodes[0].shape)
        if self.entry is None:
            return entering
        scaled = entering * self.entry.factor + self.entry.shift
        return np.where(scaled >= 0, 1.0, -1.0) if self.entry.sign else scaled


TYPES = ("weight_type", "bias_type", "accum", "result")
ARRAYS = ("weight", "bias", "factor", "shift")


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
    kept = {field.name: getattr(design, field.name) for field in fields(design) if field.name not in ("nodes", "entry")}
    entry = astuple(design.entry) if design.entry else None
    text = json.dumps({"nodes": rows, **kept, "entry": entry})
    np.savez(path, design=np.frombuffer(text.encode(), np.uint8), **arrays)


def load(path: Path) -> Design:
    """Inverse of `save`."""
    with np.load(path, allow_pickle=False) as stored:
        found = json.loads(stored["design"].tobytes())
        nodes = tuple(_node(row, stored) for row in found["nodes"])
    entry = Entry(*found["entry"]) if found["entry"] else None
    return Design(**{**found, "nodes": nodes, "input_shape": tuple(found["input_shape"]), "entry": entry})


def _plain(value: Any) -> Any:
    return astuple(value) if isinstance(value, Fixed) else value


def _node(row: Mapping[str, Any], stored: Any) -> Node:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    values |= {key: Fixed(*row[key]) for key in TYPES if row[key] is not None}
    values |= {key: stored[f"{row['name']}.{key}"] for key in ARRAYS if f"{row['name']}.{key}" in stored}
    return Node(**values)
