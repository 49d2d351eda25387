"""Rewrites, in place, what quantizers misread into the form that they read. The network computes the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, inliner, numpy_helper

from backends.onnx_tools.graph import find_free_name, walk_graphs, walk_nodes
from bench.errors import Unsupported

CLIPPING = frozenset({"Clip", "Relu"})
"""Operators that ONNX Runtime's static quantizer takes away, and leaves to the range of the tensor before them."""
NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of a Constant that hold numbers without a tensor -> their type."""


def inline_functions(model: ModelProto) -> ModelProto:
    """The network with its own functions expanded, in its own opset: raising an opset loses them."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except RuntimeError as error:
        raise Unsupported(f"functions of the file itself cannot be expanded in its opset: {error}") from error


def write_plainly(model: ModelProto) -> None:
    """Sparse tensors become dense ones, numbers of Constants tensors, and inputs left out at a node's end go."""
    for graph in walk_graphs(model.graph):
        graph.initializer.extend(map(_make_dense, graph.sparse_initializer))
        del graph.sparse_initializer[:]
        for node in graph.node:
            while node.input and not node.input[-1]:
                del node.input[-1]
            if node.op_type == "Constant":
                _make_tensor(node)


def _make_dense(sparse: SparseTensorProto) -> TensorProto:
    """Its indices are places in the flat tensor, or a row of places for each value."""
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    flat = places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), dense.shape)
    dense.reshape(-1)[flat] = values
    return numpy_helper.from_array(dense, sparse.values.name)


def _make_tensor(node: NodeProto) -> None:
    for item in list(node.attribute):
        if item.name in NUMBERS:
            numbers = np.asarray(helper.get_attribute_value(item), NUMBERS[item.name])
            node.attribute.remove(item)
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(numbers)))


def part_clipped_outputs(model: ModelProto) -> None:
    """Outputs that only a Clip or Relu reads come out of an Identity of their own.

    A static quantizer gives what a Relu reads the Relu's own range, which would cut off the output too.
    """
    taken = {name for node in walk_nodes(model.graph) for name in (node.name, *node.input, *node.output)}
    graph, given = model.graph, {value.name for value in model.graph.output}
    reads = Counter(name for node in walk_nodes(graph) for name in node.input)
    clipped = {node.input[0] for node in graph.node if node.op_type in CLIPPING}
    for name in sorted(name for name in given & clipped if reads[name] == 1):
        inside = find_free_name(f"{name}/own", taken)
        taken.add(inside)
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inside if one == name else one for one in names]
        graph.node.append(helper.make_node("Identity", [inside], [name], find_free_name(f"{name}/Identity", taken)))


def name_outputs_apart(graph: GraphProto) -> None:
    """An output that is listed twice comes out of an Identity under its second name, which float16's conversion needs."""
    taken, seen = _list_values(graph) | {node.name for node in walk_nodes(graph)}, set()
    for value in graph.output:
        if value.name in seen:
            name = find_free_name(value.name, taken)
            taken.add(name)
            graph.node.append(
                helper.make_node("Identity", [value.name], [name], find_free_name(f"{name}/Identity", taken))
            )
            value.name = name
        seen.add(value.name)


def name_weights_apart(model: ModelProto) -> None:
    """Gives weights of bodies names of their own where another graph has a weight of that name."""
    taken = {name for graph in walk_graphs(model.graph) for name in _list_values(graph)}
    seen: set[str] = set()
    for graph in walk_graphs(model.graph):
        renamed: dict[str, str] = {}
        for item in graph.initializer:
            if item.name in seen:
                renamed[item.name] = find_free_name(item.name, taken)
                taken.add(renamed[item.name])
        _rename_reads(graph, renamed)
        for item in graph.initializer:
            item.name = renamed.get(item.name, item.name)
        seen |= {item.name for item in graph.initializer}


def drop_repeated(graph: GraphProto) -> None:
    """Drops nodes whose output another node before them makes: float16's conversion casts a value for each of its readers."""
    made: set[str] = set()
    for node in list(graph.node):
        if made.intersection(node.output):
            graph.node.remove(node)
        made.update(filter(None, node.output))


def _list_values(graph: GraphProto) -> set[str]:
    stored = {item.name for item in (*graph.initializer, *graph.input)}
    return stored | {name for node in graph.node for name in node.output}


def _rename_reads(graph: GraphProto, renamed: dict[str, str]) -> None:
    """In the graph and in its bodies, but for names that a body has itself."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for item in node.attribute:
            for body in (item.g, *item.graphs):
                own = _list_values(body)
                _rename_reads(body, {old: new for old, new in renamed.items() if old not in own})
    for value in graph.output:
        value.name = renamed.get(value.name, value.name)
