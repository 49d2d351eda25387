"""Walks an ONNX model: its subgraphs, nodes and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

DRAWN = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
"""Operators that draw random numbers: their results are never constant, whatever they read."""


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Bodies of a control-flow operator."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def every_node(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes of a graph, those inside control-flow bodies too."""
    yield from nested_nodes(graph.node)


def nested_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those inside their control-flow bodies."""
    for node in nodes:
        yield node
        for body in subgraphs(node):
            yield from nested_nodes(body.node)


def captured(node: NodeProto) -> Iterator[str]:
    """Names that the bodies of a control-flow operator read, their own values among them."""
    for body in subgraphs(node):
        for inner in every_node(body):
            yield from inner.input


def every_tensor(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            graphs.extend((attribute.g, *attribute.graphs))
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
