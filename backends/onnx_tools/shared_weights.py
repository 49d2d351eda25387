"""Gives each kind of use of a stored weight its own copy, where a quantizer would change the weight for all of them,
and Gemms their biases in the form that quantizers take.

ONNX Runtime's quantizers transpose the weight of a Gemm in place and keep one scale axis for each tensor. A table that
a Gather reads and a Gemm multiplies by, as tied embeddings are, then breaks.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from backends.onnx_tools.graph import find_free_name, walk_graphs, walk_nodes
from backends.onnx_tools.operators import weight_inputs

Use = tuple[NodeProto, int]
"""A node, and which of its inputs the weight is."""
OTHER, TURNED = "other", "turned"
"""Uses that no quantizer takes for a layer's weight, and Gemms that transpose it."""


def separate_weights(model: ModelProto) -> None:
    """One stored tensor for each kind of use of a weight, in place. The first layer that multiplies by it keeps its name.

    Gemms that share a transposed weight share one that is stored transposed.
    """
    taken = {name for node in walk_nodes(model.graph) for name in (*node.input, *node.output)}
    for graph in walk_graphs(model.graph):
        given = {value.name for value in graph.output}
        for tensor in list(graph.initializer):
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
                _separate(graph, tensor, taken, given=tensor.name in given)


def fold_scales(model: ModelProto) -> None:
    """Multiplies `alpha` and `beta` of Gemms into their stored weights and biases, in place.

    An int8 kernel adds a bias without `beta`, and dynamic quantization leaves scaled Gemms float.
    """
    taken = {name for node in walk_nodes(model.graph) for name in (*node.input, *node.output)}
    reads = Counter(name for node in walk_nodes(model.graph) for name in node.input)
    for graph in walk_graphs(model.graph):
        reads.update(value.name for value in graph.output)
        stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        for node in graph.node:
            for scale, place in (("alpha", 1), ("beta", 2)) if node.op_type == "Gemm" else ():
                factor = next((item.f for item in node.attribute if item.name == scale), 1.0)
                if factor == 1 or place >= len(node.input) or node.input[place] not in stored:
                    continue
                tensor = stored[node.input[place]]
                scaled = np.asarray(numpy_helper.to_array(tensor) * np.float32(factor))
                if reads[tensor.name] > 1:
                    node.input[place] = find_free_name(f"{tensor.name}/{scale}", taken)
                    taken.add(node.input[place])
                    tensor = graph.initializer.add()
                tensor.CopyFrom(numpy_helper.from_array(scaled, node.input[place]))
                _unset(node, scale)


def flatten_biases(model: ModelProto) -> None:
    """Gives every Gemm of a stored weight its stored bias as a vector of its outputs, in place.

    A number, or a matrix of one row, means the same: the static quantizer fails on them.
    """
    taken = {name for node in walk_nodes(model.graph) for name in (*node.input, *node.output)}
    for graph in walk_graphs(model.graph):
        stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        for node in graph.node:
            if node.op_type != "Gemm" or len(node.input) < 3 or not {node.input[1], node.input[2]} <= set(stored):
                continue
            width = stored[node.input[1]].dims[0 if _kind(node, 1) == TURNED else 1]
            shape = list(stored[node.input[2]].dims)
            if shape == [width] or shape[-1:] not in ([], [1], [width]) or any(size != 1 for size in shape[:-1]):
                continue
            bias = np.broadcast_to(numpy_helper.to_array(stored[node.input[2]]).reshape(-1), (width,))
            name = find_free_name(f"{node.input[2]}/row", taken)
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias), name))
            taken.add(name)
            node.input[2] = name
        used = {name for node in walk_nodes(graph) for name in node.input} | {value.name for value in graph.output}
        for tensor in stored.values():
            if tensor.name not in used:
                graph.initializer.remove(tensor)


def _separate(graph: GraphProto, tensor: TensorProto, taken: set[str], *, given: bool) -> None:
    """`given`: whether the tensor is an output of its graph too, which keeps its name."""
    kinds: dict[str, list[Use]] = {OTHER: []} if given else {}
    for node in walk_nodes(graph):
        for place, name in enumerate(node.input):
            if name == tensor.name:
                kinds.setdefault(_kind(node, place), []).append((node, place))
    if set(kinds) <= {OTHER} or (len(kinds) == 1 and len(kinds.get(TURNED, ())) < 2):
        return
    values, stays = numpy_helper.to_array(tensor), OTHER if given else next(kind for kind in kinds if kind != OTHER)
    for kind, uses in kinds.items():
        stored = np.ascontiguousarray(values.T) if kind == TURNED else values
        if kind == stays:
            tensor.CopyFrom(numpy_helper.from_array(stored, tensor.name))
            name = tensor.name
        else:
            name = find_free_name(f"{tensor.name}/{kind}", taken)
            graph.initializer.append(numpy_helper.from_array(stored, name))
            taken.add(name)
        for node, place in uses:
            node.input[place] = name
            if kind == TURNED:
                _unset(node, "transB")


def _kind(node: NodeProto, place: int) -> str:
    if place not in weight_inputs(node.op_type):
        return OTHER
    return TURNED if any(item.name == "transB" and item.i for item in node.attribute) else node.op_type


def _unset(node: NodeProto, name: str) -> None:
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
