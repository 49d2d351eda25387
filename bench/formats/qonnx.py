"""QONNX: ONNX files of quantized networks as Brevitas and QKeras export them, with operators of their own.

Source: https://github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from bench.formats.onnx_walk import every_node

FORM = "qonnx"
"""The format's name among the files of a network."""
REMEDY = (
    "target fpga takes it (pressbench run --target fpga), as do own targets with backend hls; one with FINN's "
    "MultiThreshold must be the file from before FINN's ConvertQONNXtoFINN"
)
"""Where a QONNX file can be measured."""
FAMILIES = ("onnx.brevitas", "qonnx.custom_op", "finn.custom_op")
QUANTIZERS = ("Quant", "IntQuant", "FloatQuant", "BipolarQuant", "Trunc", "MultiThreshold")


def is_qonnx(model: ModelProto) -> bool:
    """Whether an operator of QONNX is in the network."""
    return any(belongs(node) for node in every_node(model.graph))


def belongs(node: NodeProto) -> bool:
    """Whether an operator is one of QONNX, or of FINN, which extends it."""
    return any(node.domain == family or node.domain.startswith(f"{family}.") for family in FAMILIES)


def is_quantizer(node: NodeProto) -> bool:
    """Whether an operator of QONNX rounds a value and leaves its shape."""
    return belongs(node) and node.op_type in QUANTIZERS
