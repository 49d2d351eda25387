"""Which multiplying nodes of a file stayed in floating point, and how much of the weights they hold."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from onnx import GraphProto, NodeProto

from backends.onnx_tools.graph import producers
from backends.onnx_tools.operators import INTEGER, LINEAR_MODELS, MULTIPLYING, PACKED, RECURRENT

MOVING = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose"})
"""Operators that a stored weight goes through on its way to what multiplies by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The multiplying nodes of a file by name, and how many weights each multiplies by (a shared weight counts once).

    `quantized`: those asked to run in integers, `left`: those left float, `packed`: those left float whose
    weights are all stored in fewer bits.
    """

    quantized: tuple[str, ...]
    left: tuple[str, ...]
    packed: tuple[str, ...]
    weights: Mapping[str, int]

    def share_of(self, names: Sequence[str]) -> float:
        """Which part of all weights, 0 to 1, the named nodes hold; 0 where nothing is stored."""
        total = sum(self.weights.values())
        return sum(self.weights.get(name, 0) for name in names) / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A stored weight that a node reads: its name, its elements, and whether it is unpacked on the way."""

    name: str
    elements: int
    unpacked: bool


def split_by_precision(graph: GraphProto) -> Split:
    """Judges every node that multiplies, those in bodies of Loop, If and Scan too."""
    quantized: list[str] = []
    left: list[str] = []
    packed: list[str] = []
    weights: dict[str, int] = {}
    seen: set[str] = set()
    for node, made, stored in _walk(graph, ChainMap(), ChainMap()):
        if node.op_type not in INTEGER | PACKED | MULTIPLYING:
            continue
        read = _read_weights(node, made, stored)
        weights[node.name] = _count_attributes(node) + sum(item.elements for item in read if item.name not in seen)
        seen |= {item.name for item in read}
        if node.op_type in INTEGER | PACKED or _is_dequantized(node, made):
            quantized.append(node.name)
        elif read and all(item.unpacked for item in read):
            packed.append(node.name)
        else:
            left.append(node.name)
    return Split(quantized=tuple(quantized), left=(*left, *packed), packed=tuple(packed), weights=weights)


def _walk(
    graph: GraphProto, made: ChainMap[str, NodeProto], stored: ChainMap[str, int]
) -> Iterator[tuple[NodeProto, Mapping[str, NodeProto], Mapping[str, int]]]:
    """Every node with what makes each tensor it can see, and how many elements each stored tensor has."""
    made = made.new_child(dict(producers(graph)))
    constants = {
        node.output[0]: prod(item.t.dims)
        for node in graph.node
        for item in node.attribute
        if node.op_type == "Constant" and item.name == "value"
    }
    stored = stored.new_child({item.name: prod(item.dims) for item in graph.initializer} | constants)
    for node in graph.node:
        yield node, made, stored
        for item in node.attribute:
            for body in (item.g, *item.graphs):
                if body.node:
                    yield from _walk(body, made, stored)


def _read_weights(node: NodeProto, made: Mapping[str, NodeProto], stored: Mapping[str, int]) -> list[Weight]:
    """The stored matrices a node multiplies by. Scales and biases are small and follow the weight."""
    several = node.op_type in RECURRENT | {"DecoderAttention", "DynamicQuantizeLSTM"}
    masked = node.op_type.endswith("Attention")  # the fourth input is a mask, or a bias
    last = 3 if (masked or several) and node.op_type != "DecoderAttention" else 4
    found = [_trace(name, made, stored) for name in node.input[:last] if name]
    weights = [item for item in found if item is not None and item.elements > 1]
    if several:
        return weights
    return sorted(weights, key=lambda item: -item.elements)[:1]


def _trace(name: str, made: Mapping[str, NodeProto], stored: Mapping[str, int]) -> Weight | None:
    """The stored tensor that `name` comes from, without a computation in between; None for an activation."""
    unpacked = False
    while name not in stored:
        node = made.get(name)
        if node is None or node.op_type not in MOVING:
            return None
        unpacked |= node.op_type in {"Cast", "DequantizeLinear"}
        name = node.input[0]
    return Weight(name=name, elements=stored[name], unpacked=unpacked)


def _is_dequantized(node: NodeProto, made: Mapping[str, NodeProto]) -> bool:
    """Whether both factors come out of DequantizeLinear, which a runtime fuses into an integer kernel."""
    if node.op_type in RECURRENT | LINEAR_MODELS:
        return False
    return all(name in made and made[name].op_type == "DequantizeLinear" for name in node.input[:2])


def _count_attributes(node: NodeProto) -> int:
    """Coefficients that an operator of ai.onnx.ml carries as attributes."""
    if node.op_type not in LINEAR_MODELS:
        return 0
    return sum(len(item.floats) for item in node.attribute if item.name in {"coefficients", "support_vectors"})
