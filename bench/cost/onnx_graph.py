"""Cost of an .onnx file, counted on its graph at batch 1. Conventions: docs/cost.md.

1 MAC is one multiply and one add, 2 FLOPs. MACs are those of convolutions, matrix products and
recurrent cells; biases, activations, pooling, normalisation and data movement count as none.
`nonzero_macs` leaves out MACs whose weight is zero. Quantized graphs count as the float graph they stand for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

from onnx import NodeProto

from bench.cost.ledger import Flow, Step, Work, apply_rule, layer_name, total
from bench.cost.onnx_bits import Bits, find_bits
from bench.cost.onnx_bodies import count_bodies
from bench.cost.onnx_constants import bytes_of, operand
from bench.cost.onnx_formulas import View, elementwise
from bench.cost.onnx_rules import FREE_ELEMENTWISE, RULES, kind, weight_name
from bench.cost.onnx_shapes import CONTROL, Graph, read_graph
from bench.formats.onnx_walk import captured
from bench.types import Cost

VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
"""Operators whose first output is their input under another shape: no runtime copies for them."""


def onnx_cost(file: Path, batch: int | None = None) -> Cost:
    """The cost. Raises `InvalidInput` for a file that is not an ONNX model, is cut off or is inconsistent."""
    graph = read_graph(file)
    unknown: list[str] = []
    bits = find_bits(graph)
    steps = [_with_bits(_step(graph, node, unknown), bits) for node in graph.nodes]
    flow = Flow(
        sizes=_sizes(graph, unknown),
        alias=_aliases(graph),
        inputs=graph.inputs,
        outputs=tuple(name for name in graph.outputs if name not in graph.constant),
    )
    return total(steps, flow, batch=batch or graph.batch, file_bytes=graph.file_bytes, unknown=unknown)


def _step(graph: Graph, node: NodeProto, unknown: list[str]) -> Step:
    name, work = _operator(node), Work()
    stored = {key: size for source in node.input for key, size in _stored(graph, source)}
    if node.op_type in CONTROL and kind(node)[0] == "":
        inside = count_bodies(graph, node, unknown, _step)
        work, stored = inside.work, {**stored, **inside.stored}
    else:
        view = View(graph=graph, node=node)
        work = apply_rule(RULES.get(kind(node)), elementwise, view, replace(view, guess=True), name, unknown)
    return Step(
        name=_name(graph, node, work),
        operator=name,
        work=work,
        stored=stored,
        reads=tuple(item for item in (*node.input, *captured(node)) if _flows(graph, item)),
        writes=tuple(filter(None, node.output)),
        output_shape=graph.shapes.get(next(iter(node.output), ""), ()),
        node=node.name or next(iter(node.output), node.op_type),
    )


def _with_bits(step: Step, bits: Mapping[str, Bits]) -> Step:
    found = bits.get(next(iter(step.writes), ""))
    if found is None or not step.work.macs:
        return step
    return replace(step, weight_bits=found[0], activation_bits=found[1])


def _operator(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _stored(graph: Graph, name: str) -> Iterator[tuple[str, int]]:
    constant = operand(graph, name) if name else None
    if constant is not None:
        yield from constant.stored.items()


def _flows(graph: Graph, name: str) -> bool:
    """Whether a name is an activation: not a constant, not an omitted input."""
    return bool(name) and name not in graph.initializers and name not in graph.sparse and name not in graph.constant


def _name(graph: Graph, node: NodeProto, work: Work) -> str:
    """The weight's module path; else the node's name, else its output's."""
    if (work.macs or work.params) and node.op_type not in FREE_ELEMENTWISE:
        for source in weight_name(node):
            constant = operand(graph, source)
            if constant is not None and constant.leaves:
                return layer_name(constant.leaves[0].key)
            if constant is not None and constant.stored:
                return layer_name(next(iter(constant.stored)))
    return node.name or next(iter(node.output), node.op_type)


def _sizes(graph: Graph, unknown: list[str]) -> dict[str, int]:
    """Bytes of every activation that is read. One whose size is known only at run time makes its operator unknown."""
    sizes = {}
    used = {name for node in graph.nodes for name in (*node.input, *captured(node))}.union(graph.outputs)
    writers = {
        name: node for node in graph.nodes for name in node.output if name and (name in used or name == node.output[0])
    }
    for name in (*graph.inputs, *writers):
        shape = graph.shapes.get(name)
        size = None if shape is None else bytes_of(graph.types.get(name, 0), prod(shape))
        if size is not None:
            sizes[name] = size
        else:
            operator = _operator(writers[name]) if name in writers else "input"
            unknown.append(f"{operator} (size known at run time only)")
    return sizes


def _aliases(graph: Graph) -> dict[str, str]:
    """Tensors that use another tensor's storage: views and quantize-dequantize pairs.

    Of a pair only the quantized tensor counts, because every runtime fuses the pair into its neighbours.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in (*node.input, *captured(node)):
            readers.setdefault(name, []).append(node)
    alias: dict[str, str] = {}
    kept = {*graph.outputs, *graph.inputs}
    for node in graph.nodes:
        if node.op_type in VIEWS or node.op_type == "DequantizeLinear":
            alias[node.output[0]] = node.input[0]
            continue
        source = node.input[0] if node.op_type == "QuantizeLinear" else ""
        if source and source not in kept and source not in alias and len(readers[source]) == 1:
            alias[source] = node.output[0]
    return alias
