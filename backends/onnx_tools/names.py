"""Keeps a file's tensors apart from the tensors that a quantizer adds: it names its own after those that are there.

ONNX Runtime calls its copy of a bias `b` that two layers share `b0`. A file with a tensor of that name then
computes something else (microsoft/onnxruntime issue 24705).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from onnx import GraphProto, ModelProto

from backends.onnx_tools.graph import find_free_name, layers, walk_graphs

ADDED = re.compile(
    r"_(q|Q|scale|zero_point|Dequantize|MatMul|Transpose|output_|cast|Cast|bias_|Reduce|Abs|convert|float16|packed|product)"
)
"""How the end of a quantizer's name begins, behind the name it was made from."""
COPIES = re.compile(r"\d+$")
"""The end of a copy of a stored tensor."""
RESERVED = re.compile(r"graph_(in|out)put_cast_?\d")


def free_names(model: ModelProto) -> None:
    """Renames, in place, tensors whose names a quantizer might give to its own.

    Inputs, outputs and weights of layers keep their names. Where such a name is in the way, the tensor that the
    quantizer would derive it from is renamed instead.
    """
    taken = {name for graph in walk_graphs(model.graph) for name in _list_names(graph)}
    renamed: dict[str, str] = {}
    for graph in walk_graphs(model.graph):
        fixed = {value.name for value in (*graph.input, *graph.output)}
        fixed |= {node.input[1] for nodes in layers(graph).values() for node in nodes}
        stored = {item.name for item in graph.initializer}
        own = stored | {name for node in graph.node for name in node.output if name}
        for name in sorted(own | fixed):
            for base in _find_bases(name, stored, taken):
                chosen = name if name not in fixed else base
                if chosen in own - fixed and chosen not in renamed:
                    renamed[chosen] = find_free_name(f"{chosen}/own", taken)
                    taken.add(renamed[chosen])
    if renamed:
        _rename(model.graph, renamed)


def _list_names(graph: GraphProto) -> set[str]:
    """Every name in a graph that a quantizer might derive another from, or collide with."""
    stored = {item.name for item in graph.initializer}
    nodes = {name for node in graph.node for name in (node.name, *node.output)}
    return {name for name in stored | nodes | set(layers(graph)) | {value.name for value in graph.input} if name}


def _find_bases(name: str, stored: Container[str], taken: Container[str]) -> list[str]:
    """The names that a quantizer would make `name` from."""
    if RESERVED.match(name):
        return [name]
    starts = ((name[:end], end) for end in range(1, len(name)))
    return [
        start
        for start, end in starts
        if (start in taken and ADDED.match(name, end)) or (start in stored and COPIES.match(name, end))
    ]


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    for inner in walk_graphs(graph):
        for node in inner.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = renamed.get(name, name)
        for value in (*inner.initializer, *inner.value_info):
            value.name = renamed.get(value.name, value.name)
