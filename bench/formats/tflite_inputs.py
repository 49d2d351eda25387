"""The inputs and outputs of a graph of a .tflite file: names, sizes, and the whole numbers that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.device.inputs import name_apart
from bench.errors import InvalidInput, Unsupported
from bench.formats.declared import Declared, Dim
from bench.formats.index_bounds import Array, Found, Node, Walk, find_bounds
from bench.formats.tflite_file import Graph, Operator, Tensor, constant_values

KINDS = {
    "ADD": "Add", "CAST": "Cast", "EQUAL": "Equal", "EXPAND_DIMS": "Unsqueeze", "GATHER": "Gather",
    "GATHER_ND": "GatherND", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_NOT": "Not", "LOGICAL_OR": "Or", "MEAN": "ReduceMean",
    "MUL": "Mul", "ONE_HOT": "OneHot", "RESHAPE": "Reshape", "SELECT": "Where", "SELECT_V2": "Where", "SHAPE": "Shape",
    "SLICE": "Slice", "SQUEEZE": "Squeeze", "STRIDED_SLICE": "Slice", "SUB": "Sub", "SUM": "ReduceSum", "TILE": "Tile",
    "TRANSPOSE": "Transpose", "BROADCAST_TO": "Expand",
}  # fmt: skip
"""Operators that the walk knows -> ONNX's names of them."""
SMALL = 4096
"""Elements up to which a constant's values are read."""


HELD = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
"""Types of quantized inputs -> the numbers that they store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The numbers that a quantized input can hold, `step` apart. `symmetric`: as many below 0 as above, whatever it is fed."""

    low: float
    high: float
    step: float
    symmetric: bool


def held_ranges(graph: Graph) -> tuple[Held | None, ...]:
    """Of each input, in order; None for one that is not quantized."""
    return tuple(_held_range(graph.tensors[number]) for number in graph.inputs)


def _held_range(tensor: Tensor) -> Held | None:
    if tensor.kind.name not in HELD or len(tensor.scales) != 1:
        return None
    step, zero = float(tensor.scales[0]), int(tensor.zero_points[0]) if tensor.zero_points.size else 0
    low, high = ((number - zero) * step for number in HELD[tensor.kind.name])
    return Held(low=low, high=high, step=step, symmetric=zero == 0 and tensor.kind.name != "UINT8")


def declared_inputs(graph: Graph, file: Path) -> tuple[Declared, ...]:
    """Inputs of the graph by their names in its signature; a quantized one is float32, as a session takes it.

    Raises `Unsupported` for an input whose type cannot be fed, `InvalidInput` when there is no input.
    """
    if not graph.inputs:
        raise InvalidInput(f"{file}: the graph takes no input, so there is nothing to feed it")
    bounds = _find_bounds(graph)
    names = name_tensors(graph, graph.inputs, outputs=False)
    return tuple(_declare(graph.tensors[index], names[index], bounds[str(index)], file) for index in graph.inputs)


def declared_outputs(graph: Graph) -> tuple[Declared, ...]:
    """Outputs of the graph by their names in its signature; a quantized one is float32, as a session gives it."""
    names = name_tensors(graph, graph.outputs, outputs=True)
    tensors = ((names[index], graph.tensors[index]) for index in graph.outputs)
    return tuple(
        Declared(name=name, dims=_dims(one), dtype="float32" if one.quantized else one.kind.feed)
        for name, one in tensors
    )


def name_tensors(graph: Graph, numbers: tuple[int, ...], *, outputs: bool) -> Mapping[int, str]:
    """Names in the graph's first signature where there are some, else the tensors' own; no two inputs have one name."""
    signature = next((item for item in graph.signatures if item.graph == graph.number), None)
    names = [graph.tensors[number].name for number in numbers]
    own = dict(zip(numbers, names if outputs else name_apart(names), strict=True))
    if signature is None:
        return own
    given = signature.outputs if outputs else signature.inputs
    named = {number: given.get(number, own[number]) for number in numbers}
    return named if len(set(named.values())) == len(named) else own


def _dims(tensor: Tensor) -> tuple[Dim, ...]:
    return tuple(None if size < 0 else size for size in tensor.signature or tensor.dims)


def _declare(tensor: Tensor, name: str, found: Found, file: Path) -> Declared:
    if not tensor.kind.feed:
        raise Unsupported(
            f"{file}: input {name!r} has the element type {tensor.kind.name}, which cannot be fed; export the network "
            "with tensors of numbers as inputs"
        )
    dtype = "float32" if tensor.quantized else tensor.kind.feed
    whole = "int" in dtype
    return Declared(
        name=name,
        dims=_dims(tensor),
        dtype=dtype,
        integers=found.integers if whole else None,
        is_mask=found.is_mask and (whole or dtype == "bool"),
    )


def _find_bounds(graph: Graph) -> Mapping[str, Found]:
    tensors = dict(enumerate(graph.tensors))
    constants = {str(number): values for number, item in tensors.items() if (values := _small(item)) is not None}
    return find_bounds(
        Walk(
            nodes=[_node(operator) for operator in graph.operators],
            inputs=[str(number) for number in graph.inputs],
            shapes={str(number): item.dims for number, item in tensors.items() if item.dims},
            constants=constants,
            stored=frozenset(str(number) for number, item in tensors.items() if item.raw is not None),
            scalars=frozenset(
                str(number) for number in graph.inputs if all(size == 1 for size in tensors[number].dims)
            ),
        )
    )


def _node(operator: Operator) -> Node:
    """In ONNX's order of operands: EMBEDDING_LOOKUP has the index first."""
    inputs = tuple("" if number < 0 else str(number) for number in operator.inputs)
    outputs = tuple(map(str, operator.outputs))
    if operator.name == "EMBEDDING_LOOKUP":
        return Node(kind="Gather", inputs=inputs[::-1], outputs=outputs)
    options = operator.options if operator.name == "GATHER" else None
    axis = options.scalar(0, "i") if options else 0
    return Node(kind=KINDS.get(operator.name, operator.name), inputs=inputs, outputs=outputs, axis=int(axis))


def _small(tensor: Tensor) -> Array | None:
    if tensor.raw is None or not tensor.kind.dtype or tensor.sparse or tensor.quantized:
        return None
    values = constant_values(tensor)
    return values if 0 < values.size <= SMALL and values.dtype.kind in "fiub" else None
