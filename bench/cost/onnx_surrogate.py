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
        left = "ji" if given.get("transA") else "ij"
        right = "kj" if given.get("transB") else "jk"
        raw = f"{node.output[0]}/product of {index}"
        product = (
            helper.make_node("MatMul", [node.input[a], node.input[b]], [raw])
            if (left, right) == ("ij", "jk")
            else helper.make_node(
                "Einsum", [node.input[a], node.input[b]], [raw], equation=f"...{left},...{right}->...ik"
            )
        )
        return [product, helper.make_node("Cast", [raw], [node.output[0]], to=FLOAT_OUTPUT)], []

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


NAMELESS = ("SimplifiedLayerNormalization",)
"""Extension operators that ONNX Runtime registers in the standard domain."""

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
    "SimplifiedLayerNormalization": _as("Identity", (0,)),
    "SkipLayerNormalization": _skip_normalization,
    "SkipSimplifiedLayerNormalization": _skip_normalization,
}
