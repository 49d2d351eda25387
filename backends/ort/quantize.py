"""What a QuantSpec means to ONNX Runtime: how each provider wants its Q/DQ, and dynamic int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from backends.onnx_tools.deploy import Quantized
from backends.onnx_tools.graph import walk_nodes
from backends.onnx_tools.quantize import (
    QUANTIZED_OPSET,
    Layout,
    describe,
    describe_opset,
    find_kept,
    find_takable,
    find_wider,
    quiet_tools,
)
from backends.onnx_tools.ready import prepare
from backends.onnx_tools.unquantizable import quantize_what_can_be
from backends.onnx_tools.verify import run_written
from bench.errors import Unsupported
from bench.types import QuantSpec, Scalar

ACTIVATIONS = {
    (8, True): QuantType.QInt8,
    (8, False): QuantType.QUInt8,
    (16, True): QuantType.QInt16,
    (16, False): QuantType.QUInt16,
}


def make_layout(spec: QuantSpec, options: Mapping[str, Scalar]) -> Layout:
    """How activations are stored, and the quantizer's options for them.

    On a CPU symmetric int8 is carried in uint8, zero point 128 or, where nothing is negative, 0: the ranges
    are the same, ReLUs still vanish into the zero point, and x86-64 has kernels for it. With int8 and zero
    point 0 ONNX Runtime 1.31 ran UltraFace RFB in 9.1 ms against 2.4 ms, 15 of its 52 convolutions in
    float32. GPUs take int8 with zero point 0 only; TensorRT takes no int32 bias behind a DequantizeLinear.
    """
    provider = str(options.get("provider", "cpu"))
    symmetric = spec.activation_symmetric
    if (spec.activation_bits, symmetric) not in ACTIVATIONS:
        raise Unsupported(f"ONNX Runtime quantizes activations to 8 or 16 bits, not {spec.activation_bits}")
    reduce_range = bool(options.get("reduce_range"))
    if provider == "tensorrt":
        extra = {"ActivationSymmetric": True, "QuantizeBias": False}
        return Layout(activations=QuantType.QInt8, extra=extra, reduce_range=reduce_range)
    if provider == "cpu" and spec.activation_bits == 8 and symmetric:
        extra = {"ActivationRestrictedAsymmetric": True}
        return Layout(activations=QuantType.QUInt8, extra=extra, reduce_range=reduce_range)
    stored = ACTIVATIONS[spec.activation_bits, symmetric]
    return Layout(activations=stored, extra={"ActivationSymmetric": symmetric}, reduce_range=reduce_range)


def quantize_dynamically(model: ModelProto, spec: QuantSpec, *, reduce_range: bool = False) -> Quantized:
    """int8 weights, of 7 bits with `reduce_range`; activations get their range at every inference (ConvInteger,
    MatMulInteger)."""
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        work = Path(folder)
        ready = prepare(model, work, QUANTIZED_OPSET, separate=True)
        kept = find_kept(model, ready, spec)

        def quantize(left_float: Sequence[str]) -> None:
            quantize_dynamic(
                work / "prepared.onnx",
                work / "quantized.onnx",
                per_channel=spec.per_channel,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt8,
                # the quantizer makes a MatMul, called so, and an Add of a Gemm
                nodes_to_exclude=[*left_float, *(f"{name}_MatMul" for name in left_float)],
                extra_options={"EnableSubgraph": True},
            )
            run_written(work / "quantized.onnx", ready)

        with quiet_tools():
            quantize_what_can_be(quantize, find_takable(ready), [*kept, *find_wider(ready)])
        kept += [f"{name}_MatMul" for name in kept]
        done = onnx.load(str(work / "quantized.onnx"))
    names = {node.name for node in walk_nodes(done.graph)}
    left = [name for name in kept if name in names]
    remedy = "try int8_weights, or float16_weights for a smaller file"
    return describe(done, "int8", left, describe_opset(model, done), remedy)
