"""Weight-only quantization: int4 or int8 weights behind a DequantizeLinear, float16 behind a Cast, arithmetic in float32.

ONNX Runtime fuses a blocked int4 DequantizeLinear into MatMulNBits; a convolution's weights it
unpacks again at every inference, which the measurement shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from backends.onnx_tools.graph import layers, walk_graphs, walk_nodes
from backends.onnx_tools.operators import RECURRENT, weight_inputs
from bench.errors import Unsupported
from bench.types import QuantSpec

BLOCKED_OPSET = 21
CAST_OPSET = 13
"""ONNX Runtime's preparation raises older files itself, and after it has put in operators that it cannot raise."""
STORED = {
    (4, True): np.dtype(ml_dtypes.int4),
    (4, False): np.dtype(ml_dtypes.uint4),
    (8, True): np.dtype(np.int8),
    (8, False): np.dtype(np.uint8),
}
FLOAT = TensorProto.FLOAT
HALF_MOST = float(np.finfo(np.float16).max)
MASK = 1e8
"""A number so large says "never" (-1e9, 1e30, infinity): it is not a value to compute with."""
BIAS = {"Gemm": (2,), "Conv": (2,), "ConvTranspose": (2,), "LSTM": (3,), "GRU": (3,), "RNN": (3,)}
"""Which inputs of a layer are its bias."""
OPERANDS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), (0, 1)),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), (1, 2)),
    "BatchNormalization": (1, 2, 3, 4),
}
"""Which inputs of other operators may be numbers to compute with."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A weight as w = (values - zero_points) * scales in whole values, one scale per index of `axis`, or per `block` along it."""

    values: Floats
    scales: Floats
    zero_points: Floats
    axis: int
    block: int


def choose_opset(spec: QuantSpec) -> int:
    """The first opset that has what packed weights of this width need."""
    return CAST_OPSET if spec.weight_bits == 16 else BLOCKED_OPSET


def pack_layers(model: ModelProto, spec: QuantSpec, kept: Sequence[str]) -> tuple[ModelProto, list[str]]:
    """The network with packed weights, those in bodies too, except those of the nodes `kept`, and the packed nodes' names.

    `model` is in the opset that `choose_opset` names. Raises `Unsupported`.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    names = [name for graph in walk_graphs(changed.graph) for name in _pack_graph(graph, spec, kept)]
    if not names:
        raise Unsupported("ONNX Runtime found no constant float32 weights to quantize in this network")
    return changed, names


def check_width(spec: QuantSpec) -> None:
    """Raises `Unsupported` for a width that no weight is stored in."""
    if spec.weight_bits != 16 and (spec.weight_bits, spec.weight_symmetric) not in STORED:
        raise Unsupported(f"ONNX Runtime has weight-only quantization to 4, 8 or 16 bits, not {spec.weight_bits}")


def _pack_graph(graph: GraphProto, spec: QuantSpec, kept: Sequence[str]) -> list[str]:
    """Packs, in place, the weights that one graph stores; the names of the nodes that multiply by them."""
    half = spec.weight_bits == 16
    if half:
        refuse_too_large(graph, kept)
    else:
        _gemm_to_matmul(graph)
    names: list[str] = []
    for layer, nodes in layers(graph).items():
        if {node.name for node in nodes} & set(kept):
            continue
        weight = next(
            name
            for index in weight_inputs(nodes[0].op_type)
            for name in nodes[0].input[index : index + 1]
            if name.removesuffix(".weight") == layer
        )
        if half:
            _halve_in_place(graph, weight)
        else:
            _pack_in_place(graph, nodes[0], weight, spec)
        names += [node.name for node in nodes]
    return list(dict.fromkeys(names))


def pack(array: Floats, spec: QuantSpec, axis: int, block: int) -> Packed:
    """Rounded to the nearest of 2^bits levels, a scale (and zero point) per block, channel or tensor."""
    everything = tuple(range(array.ndim))
    rest = everything if not spec.per_channel else tuple(index for index in everything if index != axis)

    def reduce(function: np.ufunc) -> Floats:
        if block:
            return np.asarray(function.reduceat(array, range(0, array.shape[axis], block), axis=axis))
        return np.asarray(function.reduce(array, axis=rest, keepdims=True))

    def widen(each: Floats) -> Floats:
        return np.repeat(each, block, axis=axis).take(range(array.shape[axis]), axis=axis) if block else each

    low, high = np.minimum(reduce(np.minimum), 0), np.maximum(reduce(np.maximum), 0)
    most = 2**spec.weight_bits - 1
    if spec.weight_symmetric:
        most = 2 ** (spec.weight_bits - 1) - 1
        scales = _replace_zeros(np.maximum(-low, high) / most)
        zero_points = np.zeros_like(scales)
        least = -most
    else:
        scales = _replace_zeros((high - low) / most)
        zero_points = np.round(-low / scales)
        least = 0
    values = np.clip(np.round(array / widen(scales)) + widen(zero_points), least, most)
    return Packed(values=values, scales=scales, zero_points=zero_points, axis=axis, block=block)


def _replace_zeros(scales: Floats) -> Floats:
    """A block of zeros gets scale 1."""
    return np.where(scales > 0, scales, 1).astype(np.float32)


def _pack_in_place(graph: GraphProto, node: NodeProto, name: str, spec: QuantSpec) -> None:
    """The weight `name` of `node` becomes the output of a DequantizeLinear of the same name."""
    tensor = next(item for item in graph.initializer if item.name == name)
    array = np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)
    output_axis, input_axis = _axes(node, array.ndim)
    blocked = 0 < spec.block_size < array.shape[input_axis]
    packed = pack(array, spec, input_axis if blocked else output_axis, spec.block_size if blocked else 0)
    shape = packed.scales.shape if packed.block else (-1,) if spec.per_channel else ()
    stored = STORED[spec.weight_bits, spec.weight_symmetric]
    graph.initializer.remove(tensor)
    for suffix, values in (
        ("_packed", packed.values.astype(stored)),
        ("_scale", packed.scales.reshape(shape)),
        ("_zero_point", packed.zero_points.astype(stored).reshape(shape)),
    ):
        graph.initializer.append(numpy_helper.from_array(values, name + suffix))
    inputs = [name + suffix for suffix in ("_packed", "_scale", "_zero_point")]
    unpack = helper.make_node(
        "DequantizeLinear", inputs, [name], name=f"{name}_DequantizeLinear", axis=packed.axis, block_size=packed.block
    )
    graph.node.insert(0, unpack)


def refuse_too_large(graph: GraphProto, kept: Sequence[str]) -> None:
    """Raises `Unsupported` for a layer whose weights float16 does not hold, which would be cut, but for the nodes `kept`.

    Masks are left out: cut at float16's least number they still mask.
    """
    for inner in walk_graphs(graph):
        stored = {item.name.removesuffix(".weight"): item for item in inner.initializer if item.data_type == FLOAT}
        for layer, nodes in layers(inner).items():
            values = np.abs(numpy_helper.to_array(stored[layer]))
            most = float(np.max(values, initial=0, where=np.isfinite(values)))
            if most > HALF_MOST and not {node.name for node in nodes} & set(kept):
                raise Unsupported(
                    f"float16 holds numbers up to {HALF_MOST:.0f}, and the weights of layer {layer!r} reach {most:g}: they would be "
                    f"cut; keep it with keep_float=({layer!r},)"
                )


def refuse_cut_constants(graph: GraphProto, kept: Sequence[str]) -> None:
    """Raises `Unsupported` for a bias, scale or other operand that float16 does not hold, but for the nodes `kept`.

    Masks pass, as cut they still mask: numbers of `MASK` and beyond, and negative ones that are not a layer's bias.
    """
    stored: dict[str, TensorProto] = {}
    products: set[str] = set()
    for inner in walk_graphs(graph):
        stored.update((item.name, item) for item in inner.initializer)
        for node in inner.node:
            stored.update((node.output[0], item.t) for item in node.attribute if node.op_type == "Constant")
            if node.op_type == "MatMul" and node.input[1] in stored:
                products.add(node.output[0])
            signed = node.op_type in BIAS or (node.op_type == "Add" and not products.isdisjoint(node.input))
            places = BIAS.get(node.op_type) or OPERANDS.get(node.op_type, ())
            names = [node.input[place] for place in places if place < len(node.input)]
            for name in names if node.name not in kept else ():
                _refuse_cut(node, name, stored.get(name), signed=signed)


def _refuse_cut(node: NodeProto, name: str, tensor: TensorProto | None, *, signed: bool) -> None:
    if tensor is None or tensor.data_type != FLOAT:
        return
    values = np.asarray(numpy_helper.to_array(tensor))
    sizes = np.abs(values) if signed else values
    most = float(np.max(sizes, initial=0, where=sizes < MASK))
    if most > HALF_MOST:
        raise Unsupported(
            f"float16 holds numbers up to {HALF_MOST:.0f}, and {name!r} of {node.op_type} {node.name!r} reaches {most:g}: it would be "
            "cut; scale such numbers in the network, or let it compute in another type"
        )


def _halve_in_place(graph: GraphProto, name: str) -> None:
    """The weight `name` becomes the output of a Cast of the same name, from the nearest float16."""
    tensor = next(item for item in graph.initializer if item.name == name)
    stored = numpy_helper.to_array(tensor).astype(np.float16)
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}_float16"))
    graph.node.insert(
        0, helper.make_node("Cast", [f"{name}_float16"], [name], name=f"{name}_Cast", to=TensorProto.FLOAT)
    )


def _axes(node: NodeProto, rank: int) -> tuple[int, int]:
    """Output and input axis of a layer's weight."""
    if node.op_type == "Conv":
        return 0, 1
    if node.op_type == "ConvTranspose":
        return 1, 0
    if node.op_type in RECURRENT:
        return 1, 2
    transposed = node.op_type == "Gemm" and any(item.name == "transB" and item.i for item in node.attribute)
    return (0, 1) if transposed else (rank - 1, rank - 2)


def _gemm_to_matmul(graph: GraphProto) -> None:
    """Plain Gemms become MatMul and Add, in place: MatMulNBits replaces MatMuls only."""
    readers = Counter(name for node in walk_nodes(graph) for name in node.input)
    readers.update(value.name for value in graph.output)
    for weight, nodes in layers(graph).items():
        node = nodes[0]
        scaled = any(item.name in {"alpha", "beta"} and item.f != 1 for item in node.attribute)
        turned = any(item.name == "transA" and item.i for item in node.attribute)
        if node.op_type != "Gemm" or node not in graph.node or readers[node.input[1]] > 1 or scaled or turned:
            continue
        tensor = next(item for item in graph.initializer if item.name == node.input[1])
        if _axes(node, 2) == (0, 1):
            turned_weight = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
            tensor.CopyFrom(numpy_helper.from_array(turned_weight, tensor.name))
        _replace_gemm(graph, node, weight)


def _replace_gemm(graph: GraphProto, node: NodeProto, layer: str) -> None:
    index = list(graph.node).index(node)
    data, weight, *bias = node.input
    output = node.output[0]
    product = f"{layer}_product" if bias else output
    name = node.name
    graph.node.remove(node)
    graph.node.insert(index, helper.make_node("MatMul", [data, weight], [product], name=name))
    if bias:
        graph.node.insert(index + 1, helper.make_node("Add", [product, *bias], [output], name=f"{name}/bias"))
