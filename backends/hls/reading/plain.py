"""Reads an ONNX graph as the nodes of a design, in floats; names what has no form in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from backends.hls.design import INPUT, Array, Design, Node
from backends.hls.reading.graph import attributes, pads_of, read_ends, refuse, window_places
from bench.errors import InvalidInput, Unsupported

UNFOLDED = "of constants that cannot be folded into the layer before it (one a channel, where nothing else reads it)"
FORWARDED = frozenset({"Identity", "Dropout"})
TAKEN = (
    "Gemm, MatMul and Conv with stored weights, Add, Relu, MaxPool, AveragePool, GlobalAveragePool, ReduceMean over an "
    "image, Flatten, Reshape and Squeeze to one row, and BatchNormalization behind a layer"
)


def read_design(model: ModelProto) -> Design:
    """The design of a network at batch 1 with constants folded and shapes inferred.

    Raises `Unsupported` naming the operator, for one that hls4ml lacks or that is not exact in fixed point, and for
    a network with several inputs or outputs.
    """
    graph = model.graph
    stored, name, shape = read_ends(model)
    reader = _Reader(stored=stored, readers=Counter(name for node in graph.node for name in node.input))
    reader.begin(name, shape)
    for node in graph.node:
        reader.read(node)
    return reader.finish(graph, shape)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """`readers`: how many nodes read a tensor. `names`: tensor -> node name. `images`: node name -> (height, width, channels)
    that its row was flattened from."""

    stored: dict[str, Array]
    readers: Counter[str]
    nodes: list[Node] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    images: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def begin(self, tensor: str, shape: tuple[int, ...]) -> None:
        """`shape`: channels first."""
        last = (*shape[1:], shape[0]) if len(shape) == 3 else shape
        self.names[tensor] = self.add(Node(name="", title=INPUT, kind="input", shape=last)).name

    def add(self, node: Node) -> Node:
        """Numbers the node, so that no two share a name, whatever the model calls them."""
        same = sum(other.title.partition(" #")[0] == node.title for other in self.nodes)
        title = f"{node.title} #{same + 1}" if same else node.title
        kept = replace(node, name=f"n{len(self.nodes)}_{node.kind}", title=title)
        self.nodes.append(kept)
        return kept

    def get(self, tensor: str, node: NodeProto) -> Node:
        """The node that makes a tensor."""
        if tensor not in self.names:
            raise refuse(node, "with a constant where a value belongs")
        name = self.names[tensor]
        return next(one for one in self.nodes if one.name == name)

    def read(self, node: NodeProto) -> None:
        """Adds what the operator computes."""
        if node.op_type == "Constant":
            self.stored[node.output[0]] = numpy_helper.to_array(attributes(node)["value"])
            return
        if node.op_type in FORWARDED:
            self.names[node.output[0]] = self.get(node.input[0], node).name
            self.readers[node.output[0]] += self.readers[node.input[0]] - 1
            return
        if node.domain not in ("", "ai.onnx") or node.op_type not in READERS:
            raise Unsupported(
                f"operator {node.op_type} ({node.name}) has no fixed-point form in hls4ml here; it has {TAKEN}"
            )
        made = READERS[node.op_type](self, node)
        self.names[node.output[0]] = made.name

    def weight(self, tensor: str, node: NodeProto) -> Array:
        """A stored array. Raises `Unsupported` where the operator multiplies two values."""
        if tensor not in self.stored:
            raise refuse(node, "of two computed values")
        return np.asarray(self.stored[tensor], np.float64)

    def finish(self, graph: GraphProto, shape: tuple[int, ...]) -> Design:
        """Without nodes that nothing reads. Raises `Unsupported` for an output that is an image or an input."""
        last = self.names.get(graph.output[0].name)
        needed: list[Node] = []
        wanted = {last}
        for node in reversed(self.nodes):
            if node.name in wanted:
                needed.insert(0, node)
                wanted |= set(node.inputs)
        if not needed or needed[0].kind != "input" or not any(node.weight is not None for node in needed):
            raise Unsupported("this network has no layer with weights between its input and its output")
        if len(needed[-1].shape) != 1 or needed[-1].name in self.images:
            raise Unsupported(
                "its output is an image, or the row of one: an FPGA design ends in a row, such as the scores of classes"
            )
        for node in needed:
            if any(not np.isfinite(stored).all() for stored in (node.weight, node.bias) if stored is not None):
                raise InvalidInput(
                    f"{node.title}: its weights or biases hold NaN or infinity, which fixed point has not"
                )
        return Design(nodes=tuple(needed), input_shape=shape, output=graph.output[0].name)


def _gemm(reader: _Reader, node: NodeProto) -> Node:
    found = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **attributes(node)}
    if found["transA"]:
        raise refuse(node, "with its input turned")
    weight = reader.weight(node.input[1], node) * found["alpha"]
    bias = _bias(reader, node)
    bias = None if bias is None else bias.reshape(-1) * found["beta"]
    return _dense(reader, node, weight.T if found["transB"] else weight, bias)


def _matmul(reader: _Reader, node: NodeProto) -> Node:
    return _dense(reader, node, reader.weight(node.input[1], node), None)


def _dense(reader: _Reader, node: NodeProto, weight: Array, bias: Array | None) -> Node:
    """A row of an image has its channels first in the model and last in the design: the weight's rows move with it."""
    source = reader.get(node.input[0], node)
    if weight.ndim != 2 or len(source.shape) != 1:
        raise refuse(node, "of more than a row and a matrix")
    if source.name in reader.images:
        high, wide, channels = reader.images[source.name]
        weight = weight.reshape(channels, high, wide, -1).transpose(1, 2, 0, 3).reshape(weight.shape)
    if bias is not None and bias.size == 1:
        bias = np.repeat(bias, weight.shape[1])
    title = _title(node, node.input[1])
    return reader.add(
        Node(
            name="", title=title, kind="dense", inputs=(source.name,), shape=weight.shape[1:], weight=weight, bias=bias
        )
    )


def _bias(reader: _Reader, node: NodeProto) -> Array | None:
    """The third input, which an empty name leaves out too."""
    return reader.weight(node.input[2], node) if len(node.input) > 2 and node.input[2] else None


def _conv(reader: _Reader, node: NodeProto) -> Node:
    found = {"group": 1, **attributes(node)}
    source = reader.get(node.input[0], node)
    weight = reader.weight(node.input[1], node)
    if len(source.shape) != 3 or weight.ndim != 4:
        raise refuse(node, "over another number of axes than two")
    if found["group"] != 1:
        raise refuse(node, "in groups")
    if any(step != 1 for step in found.get("dilations", ())):
        raise refuse(node, "with dilation")
    window = weight.shape[2:]
    stride = tuple(found.get("strides", (1, 1)))
    pads = pads_of(node, found, source.shape, window, stride)
    return reader.add(
        Node(
            name="",
            title=_title(node, node.input[1]),
            kind="conv",
            inputs=(source.name,),
            shape=(*window_places(source.shape, window, stride, pads), weight.shape[0]),
            weight=weight.transpose(2, 3, 1, 0),
            bias=_bias(reader, node),
            window=window,
            stride=stride,
            pads=pads,
        )
    )


def _pool(reader: _Reader, node: NodeProto) -> Node:
    found = attributes(node)
    source = reader.get(node.input[0], node)
    if len(source.shape) != 3:
        raise refuse(node, "over another number of axes than two")
    window = tuple(found["kernel_shape"])
    stride = tuple(found.get("strides", (1, 1)))
    if any(pads_of(node, found, source.shape, window, stride)) or any(step != 1 for step in found.get("dilations", ())):
        raise refuse(node, "with padding or dilation")
    if found.get("ceil_mode") and any((s - w) % d for s, w, d in zip(source.shape, window, stride, strict=False)):
        raise refuse(node, "with a window over the edge (ceil_mode)")
    return _pooled(reader, node, source, "maxpool" if node.op_type == "MaxPool" else "avgpool", window, stride)


def _global_average(reader: _Reader, node: NodeProto) -> Node:
    source = reader.get(node.input[0], node)
    if len(source.shape) != 3:
        raise refuse(node, "over another number of axes than two")
    if node.op_type == "ReduceMean":
        found = attributes(node)
        axes = found.get("axes") or (reader.stored.get(node.input[1]) if len(node.input) > 1 else None)
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            raise refuse(node, "over other axes than an image's height and width")
        made = _pooled(reader, node, source, "avgpool", source.shape[:2], source.shape[:2])
        return made if found.get("keepdims", 1) else _row(reader, made, made.title)
    return _pooled(reader, node, source, "avgpool", source.shape[:2], source.shape[:2])


def _pooled(
    reader: _Reader, node: NodeProto, source: Node, kind: str, window: tuple[int, ...], stride: tuple[int, ...]
) -> Node:
    count = int(np.prod(window))
    if kind == "avgpool" and count & (count - 1):
        raise refuse(node, f"over {count} values, which fixed point cannot divide by exactly; take a power of two")
    shape = (*window_places(source.shape, window, stride, (0, 0, 0, 0)), source.shape[2])
    return reader.add(
        Node(name="", title=node.name, kind=kind, inputs=(source.name,), shape=shape, window=window, stride=stride)
    )


def _relu(reader: _Reader, node: NodeProto) -> Node:
    return _same(reader, node, "relu", (reader.get(node.input[0], node),))


def _add(reader: _Reader, node: NodeProto) -> Node:
    """A residual sum of two values, or the bias of the layer before."""
    constants = [name for name in node.input if name in reader.stored]
    if constants:
        (value,) = (name for name in node.input if name not in reader.stored)
        return _shifted(reader, node, value, None, _per_channel(reader, node, value, constants[0]))
    sides = tuple(reader.get(name, node) for name in node.input)
    if sides[0].shape != sides[1].shape or (sides[0].name in reader.images) != (sides[1].name in reader.images):
        raise refuse(node, f"of shapes {sides[0].shape} and {sides[1].shape}")
    return _same(reader, node, "add", sides)


def _batch_norm(reader: _Reader, node: NodeProto) -> Node:
    gamma, beta, mean, variance = (reader.weight(name, node) for name in node.input[1:5])
    scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return _shifted(reader, node, node.input[0], scale, beta - mean * scale)


def _per_channel(reader: _Reader, node: NodeProto, value: str, constant: str) -> Array:
    """The constant that is added to a value, one of each channel. Raises `Unsupported` where it lies along another axis."""
    stored = reader.weight(constant, node)
    axis = 3 if len(reader.get(value, node).shape) == 3 else 1
    if stored.size > 1 and (stored.ndim < axis or stored.shape[-axis] != stored.size):
        raise refuse(node, UNFOLDED)
    return stored.reshape(-1)


def _shifted(reader: _Reader, node: NodeProto, tensor: str, scale: Array | None, shift: Array) -> Node:
    """The layer that makes a tensor, scaled and shifted, if nothing else reads it. `shift`: one number, or one a channel."""
    layer = reader.get(tensor, node)
    place = reader.nodes.index(layer)
    if layer.weight is None or reader.readers[tensor] > 1 or shift.size not in (1, layer.weight.shape[-1]):
        raise refuse(node, UNFOLDED)
    factor = np.ones(layer.weight.shape[-1]) if scale is None else scale.reshape(-1)
    bias = np.zeros_like(factor) if layer.bias is None else layer.bias
    reader.nodes[place] = replace(layer, weight=layer.weight * factor, bias=bias * factor + shift)
    return reader.nodes[place]


def _flatten(reader: _Reader, node: NodeProto) -> Node:
    source = reader.get(node.input[0], node)
    size = int(np.prod(source.shape))
    if node.op_type == "Flatten":
        fits = attributes(node).get("axis", 1) == 1
    else:
        wanted = [int(one) for one in reader.stored.get(node.input[1], np.empty(0)).reshape(-1)]
        fits = len(wanted) == 2 and wanted[1] in (-1, size)
    if not fits:
        raise refuse(node, "to another shape than one row per sample")
    return source if len(source.shape) == 1 else _row(reader, source, node.name)


def _squeeze(reader: _Reader, node: NodeProto) -> Node:
    """Takes the height and the width of 1 away."""
    source = reader.get(node.input[0], node)
    axes = attributes(node).get("axes") or (reader.stored.get(node.input[1]) if len(node.input) > 1 else None)
    if source.shape[:-1] != (1, 1) or axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
        raise refuse(node, "of other axes than an image's height and width, both 1,")
    return _row(reader, source, node.name)


def _row(reader: _Reader, source: Node, title: str) -> Node:
    row = (int(np.prod(source.shape)),)
    made = reader.add(Node(name="", title=title, kind="flatten", inputs=(source.name,), shape=row))
    if source.shape[:2] != (1, 1) and source.shape[2] > 1:
        reader.images[made.name] = source.shape
    return made


def _same(reader: _Reader, node: NodeProto, kind: str, sources: tuple[Node, ...]) -> Node:
    names = tuple(source.name for source in sources)
    made = reader.add(Node(name="", title=node.name, kind=kind, inputs=names, shape=sources[0].shape))
    if sources[0].name in reader.images:
        reader.images[made.name] = reader.images[sources[0].name]
    return made


READERS: Mapping[str, Callable[[_Reader, NodeProto], Node]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _global_average,
    "Relu": _relu,
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Squeeze": _squeeze,
}


def _title(node: NodeProto, weight: str) -> str:
    """The layer's name: its weight's without `.weight`, as recipes name layers; the node's for a folded weight."""
    return weight.removesuffix(".weight") if weight.endswith(".weight") else node.name
