"""Standard operators with the output shapes of the extension operators ONNX Runtime writes, for shape inference only.

onnx knows no shapes for the domain `com.microsoft`
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md); what follows such a
node would be unknown. A stand-in computes nothing: it only carries shapes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from bench.formats.qonnx import is_quantizer

STANDARD = ("", "ai.onnx", "ai.onnx.ml")
StandIn = tuple[list[NodeProto], list[ValueInfoProto]]
Maker = Callable[[NodeProto, int], StandIn]
FLOAT_OUTPUT = 1
WINDOW = ("auto_pad", "kernel_shape", "pads", "strides", "dilations", "group", "ceil_mode", "count_include_pad")


def surrogates(node: NodeProto, index: int) -> StandIn:
    """Nodes to put in place of one, and graph inputs they need; the node itself where there is nothing to replace."""
    if is_quantizer(node):
        return _as("Identity", (0,))(node, index)
    maker = MAKERS.get(node.op_type) if node.domain == "com.microsoft" or node.op_type in NAMELESS else None
    if maker is None or attributes(node, ("channels_last",)).get("channels_last"):
        return [node], []
    try:
        return maker(node, index)
    except (IndexError, KeyError):  # an input or attribute its specification demands is missing
        return [node], []


def attributes(node: NodeProto, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Attributes of a node by name."""
    return {
        item.name: helper.get_attribute_value(item) for item in node.attribute if names is None or item.name in names
    }


def _as(operator: str, inputs: tuple[int, ...], keep: tuple[str, ...] = ()) -> Maker:
    def make(node: NodeProto, index: int) -> StandIn:
        del index
        names = [node.input[i] for i in inputs if i < len(node.input)]
        return [helper.make_node(operator, names, [node.output[0]], **attributes(node, keep))], []

    return make


def _concat(node: NodeProto, index: int) -> StandIn:
    del index
    return [helper.make_node("Concat", list(node.input[2::3]), [node.output[0]], **attributes(node, ("axis",)))], []


def _skip_normalization(node: NodeProto, index: int) -> StandIn:
    del index
    places = [name for position, name in enumerate(node.output) if name and position in (0, 3)]
    return [helper.make_node("Identity", [node.input[0]], [name]) for name in places], []


def _matmul(a: int, b: int) -> Maker:
    def make(node: NodeProto, index: int) -> StandIn:
        given = attributes(node, ("transA", "transB"))
        nodes, factors = [], []
        for place, turn in ((a, "transA"), (b, "transB")):
            name = node.input[place]
            if given.get(turn):
                name = f"{node.output[0]}/{turn} of {index}"
                nodes.append(helper.make_node("Einsum", [node.input[place]], [name], equation="...ij->...ji"))
            factors.append(name)
        raw = f"{node.output[0]}/product of {index}"
        cast = helper.make_node("Cast", [raw], [node.output[0]], to=FLOAT_OUTPUT)
        return [*nodes, helper.make_node("MatMul", factors, [raw]), cast], []

    return make


def _matmul_nbits(node: NodeProto, index: int) -> StandIn:
    given = attributes(node, ("K", "N"))
    weight = f"{node.output[0]}/unpacked weight of {index}"
    shape = [given["K"], given["N"]]
    value = helper.make_tensor_value_info(weight, TensorProto.FLOAT, shape)
    return [helper.make_node("MatMul", [node.input[0], weight], [node.output[0]])], [value]


def _qgemm(node: NodeProto, index: int) -> StandIn:
    raw = f"{node.output[0]}/product of {index}"
    gemm = helper.make_node("Gemm", [node.input[0], node.input[3]], [raw], **attributes(node, ("transA", "transB")))
    quantized = len(node.input) > 7 and bool(node.input[7])
    last = (
        helper.make_node("Identity", [raw], [node.output[0]])
        if quantized
        else helper.make_node("Cast", [raw], [node.output[0]], to=FLOAT_OUTPUT)
    )
    return [gemm, last], []


def _lstm(node: NodeProto, index: int) -> StandIn:
    del index
    given = attributes(node, ("hidden_size", "direction"))
    return [helper.make_node("LSTM", list(node.input[:3]), list(node.output), **given)], []


def _first(source: str, axis: int, out: str, index: int) -> list[NodeProto]:
    """What stands first along an axis, which goes."""
    zero = f"{out}/place of {index}"
    place = helper.make_tensor(zero, TensorProto.INT64, (), [0])
    return [
        helper.make_node("Constant", [], [zero], value=place),
        helper.make_node("Gather", [source, zero], [out], axis=axis),
    ]


def _hand_on(source: str, node: NodeProto) -> NodeProto:
    """The output: floats of an operator on integers, else of the type that goes in."""
    if node.op_type.startswith("Q"):
        return helper.make_node("Cast", [source], [node.output[0]], to=FLOAT_OUTPUT)
    return helper.make_node("Identity", [source], [node.output[0]])


def _attention(node: NodeProto, index: int) -> StandIn:
    """The values, of a projection to queries, keys and values beside each other: a third of it where no sizes are given."""
    weight, raw, thirds, out = (f"{node.output[0]}/{part} of {index}" for part in ("values", "raw", "thirds", "out"))
    last = _hand_on(out, node)
    if given := attributes(node, ("qkv_hidden_sizes",)):
        value = helper.make_tensor_value_info(weight, TensorProto.FLOAT, [None, given["qkv_hidden_sizes"][2]])
        return [helper.make_node("MatMul", [node.input[0], weight], [out]), last], [value]
    split = helper.make_tensor(f"{thirds}/sizes", TensorProto.INT64, (4,), [0, 0, 3, -1])
    return [
        helper.make_node("MatMul", list(node.input[:2]), [raw]),
        helper.make_node("Constant", [], [split.name], value=split),
        helper.make_node("Reshape", [raw, split.name], [thirds]),
        *_first(thirds, 2, out, index),
        last,
    ], []


def _multi_head_attention(node: NodeProto, index: int) -> StandIn:
    """Queries (B, S, D) with the last size of the values, (B, T, E) or (B, heads, T, E / heads): (B, S, E). Not where they are packed."""
    query, value = node.input[0], node.input[2]
    if not value:
        return [node], []
    zero, shape, row, flat, column = (
        f"{node.output[0]}/{part} of {index}" for part in ("zero", "shape", "row", "flat", "column")
    )
    constants = {zero: [0], shape: [0, 1, -1]}
    tensors = [helper.make_tensor(name, TensorProto.INT64, (len(held),), held) for name, held in constants.items()]
    return [
        *(helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors),
        helper.make_node("Gather", [value, zero], [row], axis=-2),
        helper.make_node("Reshape", [row, shape], [flat]),
        helper.make_node("Gather", [query, zero], [column], axis=2),
        helper.make_node("MatMul", [column, flat], [node.output[0]]),
    ], []


def _group_query_attention(node: NodeProto, index: int) -> StandIn:
    """As wide as its queries; keys and values (B, S, G*d) of now go behind those of the past (B, G, P, d). Not where they are packed."""
    if len(node.input) < 3 or not node.input[1] or not node.input[2]:
        return [node], []
    shape = f"heads of {index}"
    sizes = helper.make_tensor(shape, TensorProto.INT64, (4,), [0, 0, attributes(node)["kv_num_heads"], -1])
    nodes = [helper.make_node("Constant", [], [shape], value=sizes)]
    if node.output[0]:
        nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
    for now, past, out in zip(node.input[1:3], [*node.input[3:5], "", ""], node.output[1:3], strict=False):
        if not out:
            continue
        parted, turned = f"{out}/parted of {index}", f"{out}/turned of {index}"
        nodes.append(helper.make_node("Reshape", [now, shape], [parted]))
        nodes.append(helper.make_node("Transpose", [parted], [turned], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Concat", [*filter(None, [past]), turned], [out], axis=2))
    return nodes, []


def _embedding(node: NodeProto, index: int) -> StandIn:
    """Rows of the table of words; the second output has a number for each sample."""
    rows = f"{node.output[0]}/rows of {index}"
    nodes = [
        helper.make_node("Gather", [node.input[2], node.input[0]], [rows]),
        _hand_on(rows, node),
    ]
    if len(node.output) > 1 and node.output[1]:
        nodes += _first(node.input[0], 1, node.output[1], index)
    if len(node.output) > 2 and node.output[2]:
        nodes.append(helper.make_node("Identity", [node.output[0]], [node.output[2]]))
    return nodes, []


NAMELESS = ("GroupNormalization", "SimplifiedLayerNormalization")
"""Operators of the standard domain whose shapes onnx does not know: one of its own, and one that ONNX Runtime puts there."""

MAKERS: Mapping[str, Maker] = {
    "FusedConv": _as("Conv", (0, 1, 2), WINDOW),
    "FusedGemm": _as("Gemm", (0, 1, 2), ("transA", "transB")),
    "FusedMatMul": _matmul(0, 1),
    "TransposeMatMul": _matmul(0, 1),
    "MatMulIntegerToFloat": _matmul(0, 1),
    "DynamicQuantizeMatMul": _matmul(0, 1),
    "MatMulNBits": _matmul_nbits,
    "QGemm": _qgemm,
    "DynamicQuantizeLSTM": _lstm,
    "Attention": _attention,
    "QAttention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _group_query_attention,
    "EmbedLayerNormalization": _embedding,
    "QEmbedLayerNormalization": _embedding,
    "RotaryEmbedding": _as("Identity", (0,)),
    "QLinearAdd": _as("Add", (0, 3)),
    "QLinearMul": _as("Mul", (0, 3)),
    "QLinearSigmoid": _as("Identity", (0,)),
    "QLinearLeakyRelu": _as("Identity", (0,)),
    "QLinearSoftmax": _as("Identity", (0,)),
    "QLinearAveragePool": _as("AveragePool", (0,), WINDOW),
    "QLinearGlobalAveragePool": _as("GlobalAveragePool", (0,)),
    "QLinearConcat": _concat,
    "QuantizeLinear": _as("QuantizeLinear", (0, 1, 2), ("axis",)),
    "DequantizeLinear": _as("DequantizeLinear", (0, 1, 2), ("axis",)),
    "Gelu": _as("Identity", (0,)),
    "FastGelu": _as("Identity", (0,)),
    "QuickGelu": _as("Identity", (0,)),
    "BiasGelu": _as("Identity", (0,)),
    "GroupNormalization": _as("Identity", (0,)),
    "SimplifiedLayerNormalization": _as("Identity", (0,)),
    "SkipLayerNormalization": _skip_normalization,
    "SkipSimplifiedLayerNormalization": _skip_normalization,
}
