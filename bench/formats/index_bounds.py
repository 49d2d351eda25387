"""Which whole numbers a graph takes as its inputs: rows of a table it looks up, classes of a one-hot, 0 and 1 of a mask.

One walk over a graph of either format. An input is followed through operators that keep its values, and through
additions of a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
KEEPING = {
    "Cast", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose output has the values of their first input."""
LOOKUPS = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1}
"""Operators that look up in their first input -> the place of the index."""
LENGTHS = {"GRU": 4, "LSTM": 4, "RNN": 4, "ReverseSequence": 1}
"""Operators that take how long each sequence is -> the place of that; `Node.axis` is the axis of time of their first input."""
COMPARING = {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Not", "And", "Or"}
NEUTRAL = {"Shape", "Size", "Mul", "ReduceSum", "ReduceMean", "ReduceMax", "CumSum"}
"""Uses that say nothing: a mask is scaled and summed too."""
MASK_INPUTS = {("Attention", 3), ("EmbedLayerNormalization", 7), ("MultiHeadAttention", 4)}
"""(operator of onnxruntime, place) that take a mask."""
EMBEDDED = {(0, "EmbedLayerNormalization"): 2, (1, "EmbedLayerNormalization"): 4}
"""Place of ids and of segments -> place of their table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator, by its ONNX name. `axis`: where it looks up, or its axis of time; `batch_dims`: of GatherND."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axis: int = 0
    batch_dims: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A tensor whose values are those of the input `name` plus `offset`."""

    name: str
    offset: int = 0


@dataclass(slots=True, kw_only=True)
class Found:
    """What the uses of one input say. `masks`: uses that only masks have; `others`: uses that masks do not have."""

    low: int | None = None
    high: int | None = None
    masks: int = 0
    others: int = 0

    def narrow(self, low: int, high: int) -> None:
        """Keeps what is valid here too."""
        self.low = low if self.low is None else max(self.low, low)
        self.high = high if self.high is None else max(self.low, min(self.high, high))

    @property
    def integers(self) -> tuple[int, int] | None:
        """Lowest and highest valid number."""
        if self.is_mask:
            return (0, 1)
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def is_mask(self) -> bool:
        """Whether it only masks."""
        return self.masks > 0 and not self.others and self.low is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """`shapes`: sizes of tensors where they are known (-1: free). `constants`: small ones. `scalars`: inputs of one value."""

    nodes: Sequence[Node]
    inputs: Sequence[str]
    shapes: Mapping[str, Sequence[int]]
    constants: Mapping[str, Array]
    stored: frozenset[str] = frozenset()
    scalars: frozenset[str] = frozenset()
    found: dict[str, Found] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)


def find_bounds(walk: Walk) -> Mapping[str, Found]:
    """Input -> what its uses say, for the inputs that are used."""
    walk.traces.update({name: Trace(name=name) for name in walk.inputs})
    walk.found.update({name: Found() for name in walk.inputs})
    for node in walk.nodes:
        for place, name in enumerate(node.inputs):
            if name in walk.traces:
                _see(walk, node, place, walk.traces[name])
    return walk.found


def _see(walk: Walk, node: Node, place: int, trace: Trace) -> None:
    """One use of a traced tensor."""
    found = walk.found[trace.name]
    if (place == 0 and node.kind in KEEPING) or (place and node.kind == "Where"):
        _follow(walk, node, trace)
    elif (place, node.kind) in {(LOOKUPS.get(node.kind), node.kind), (0, "OneHot"), *EMBEDDED}:
        _see_lookup(found, _find_size(walk, node, place), trace)
    elif LENGTHS.get(node.kind) == place:
        _see_length(found, walk.shapes.get(node.inputs[0], ()), node.axis, trace)
    elif node.kind in {"Add", "Sub"} and _constant_beside(walk, node, place) is not None:
        _see_sum(walk, node, place, trace)
    elif _masks(walk, node, place):
        found.masks += 1
    elif node.kind in COMPARING:
        _see_comparison(walk, node, place, trace)
    elif node.kind not in NEUTRAL:
        found.others += 1


def _see_comparison(walk: Walk, node: Node, place: int, trace: Trace) -> None:
    """A single number that is compared with a constant is a choice, and the constant is a valid one.

    Numbers that are compared with 0, 1, 2 ... are made a one-hot of as many classes.
    """
    value = _constant_beside(walk, node, place)
    if node.kind == "Equal" and value is not None and trace.name in walk.scalars and value.size == 1:
        number = int(value.ravel()[0]) - trace.offset
        walk.found[trace.name].narrow(number, number)
    elif node.kind == "Equal" and value is not None and _counts_up(value):
        _see_lookup(walk.found[trace.name], value.size, trace)
    else:
        _follow(walk, node, trace)


def _counts_up(value: Array) -> bool:
    """Whether a constant is 0, 1, 2 ... along one axis."""
    return 1 < value.size == max(value.shape) and np.array_equal(value.ravel(), np.arange(value.size))


def _follow(walk: Walk, node: Node, trace: Trace) -> None:
    """Of two branches that meet, the one nearer to the input's own numbers: `Where(x < 0, x + size, x)` counts from 0."""
    for name in filter(None, node.outputs):
        known = walk.traces.get(name)
        if known is None or (known.name == trace.name and abs(trace.offset) < abs(known.offset)):
            walk.traces[name] = trace


def _see_lookup(found: Found, size: int | None, trace: Trace) -> None:
    if size is None or size < 1:
        found.others += 1
    else:
        found.narrow(-trace.offset, size - 1 - trace.offset)


def _see_length(found: Found, shape: Sequence[int], axis: int, trace: Trace) -> None:
    if axis < len(shape) and shape[axis] > 0:
        found.narrow(1 - trace.offset, shape[axis] - trace.offset)
    else:
        found.others += 1


def _find_size(walk: Walk, node: Node, place: int) -> int | None:
    """The least size that the index must stay below; None where it is not known."""
    if node.kind == "OneHot":
        depth = walk.constants.get(node.inputs[1])
        return None if depth is None else int(depth.ravel()[0])
    shape = walk.shapes.get(node.inputs[EMBEDDED.get((place, node.kind), 0)])
    if not shape:
        return None
    if not node.kind.endswith("ND"):
        return shape[node.axis] if -len(shape) <= node.axis < len(shape) else None
    index = walk.shapes.get(node.inputs[1], ())
    depth_of_index = index[-1] if index and index[-1] > 0 else 1
    sizes = shape[node.batch_dims : node.batch_dims + depth_of_index]
    return min(sizes) if sizes and min(sizes) > 0 else None


def _constant_beside(walk: Walk, node: Node, place: int) -> Array | None:
    """The constant that is the other operand."""
    return walk.constants.get(node.inputs[1 - place]) if len(node.inputs) == 2 else None


def _see_sum(walk: Walk, node: Node, place: int, trace: Trace) -> None:
    """`x + c` and `x - c` move the numbers; `1 - x` turns a mask around; anything else is arithmetic."""
    value = _constant_beside(walk, node, place)
    assert value is not None
    whole = value.size == 1 and value.dtype.kind in "iu"
    if node.kind == "Sub" and place == 1:
        if value.size == 1 and float(value.ravel()[0]) == 1:
            walk.found[trace.name].masks += 1
        else:
            walk.found[trace.name].others += 1
    elif whole:
        step = int(value.ravel()[0]) * (1 if node.kind == "Add" else -1)
        _follow(walk, node, replace(trace, offset=trace.offset + step))
    else:
        walk.found[trace.name].others += 1


def _masks(walk: Walk, node: Node, place: int) -> bool:
    """Whether only a mask is used so: it chooses, or multiplies what was computed."""
    if (node.kind == "Where" and place == 0) or (node.kind, place) in MASK_INPUTS:
        return True
    if node.kind != "Mul" or len(node.inputs) != 2:
        return False
    other, own = node.inputs[1 - place], walk.traces[node.inputs[place]].name
    from_itself = other in walk.traces and walk.traces[other].name == own
    return other not in walk.stored and other not in walk.constants and not from_itself
