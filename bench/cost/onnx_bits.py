"""The bits that a QONNX network multiplies with: what its quantizers make of weights and activations."""

from __future__ import annotations

from onnx import NodeProto

from bench.cost.onnx_constants import array_of
from bench.cost.onnx_rules import weight_name
from bench.cost.onnx_shapes import Graph
from bench.cost.onnx_surrogate import attributes
from bench.formats.qonnx import is_quantizer

PASSING = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Dropout", "Pad"}
"""Operators behind which a value still has the bits that a quantizer gave it."""
Bits = tuple[int | None, int | None]


def find_bits(graph: Graph) -> dict[str, Bits]:
    """First output of a node -> the bits of its weight and of its activation; None for one that no quantizer made.

    Nothing for a network without quantizers of QONNX.
    """
    makers = {name: node for node in graph.nodes for name in node.output} | dict(graph.constant)
    if not any(map(is_quantizer, makers.values())):
        return {}
    found = {}
    for node in graph.nodes:
        weights = weight_name(node)
        if node.input and node.output and weights:
            found[node.output[0]] = (_width(graph, weights[0], makers), _width(graph, node.input[0], makers))
    return found


def _width(graph: Graph, name: str, makers: dict[str, NodeProto]) -> int | None:
    node = makers.get(name)
    while node is not None and not is_quantizer(node):
        node = makers.get(node.input[0]) if node.op_type in PASSING and node.input else None
    if node is None:
        return None
    if node.op_type == "BipolarQuant":
        return 1
    if node.op_type == "MultiThreshold":
        return _named_width(attributes(node).get("out_dtype", b"").decode(errors="replace"))
    place = {"Trunc": 4 if len(node.input) < 6 else 5}.get(node.op_type, 3)
    stored = array_of(graph, node.input[place]) if place < len(node.input) else None
    return None if stored is None or stored.size == 0 else int(stored.max())


def _named_width(name: str) -> int | None:
    """The bits of FINN's data types: `BIPOLAR`, `BINARY`, `INT4`, `UINT2`."""
    if name in ("BIPOLAR", "BINARY"):
        return 1
    digits = name.removeprefix("U").removeprefix("INT")
    return int(digits) if digits.isdecimal() and digits.isascii() else None
