"""What a QuantSpec means to TensorRT: symmetric int8 Q/DQ, int4 blocks, half precision written into the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import ModelProto, NodeProto
from onnxruntime.quantization import QuantType

from backends.onnx_tools import graph, quantize
from backends.onnx_tools.calibrate import load_calibration
from backends.onnx_tools.deploy import Quantized
from backends.onnx_tools.operators import RECURRENT
from backends.onnx_tools.precision import split_by_precision
from backends.onnx_tools.quantize import Layout
from backends.trt.half import cast_to_half
from bench.errors import Unsupported
from bench.types import FLOAT32, Compressed, Precision, QuantSpec

HALVES = ("float16", "bfloat16")
QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LAYOUT = Layout(
    activations=QuantType.QInt8,
    operators=QUANTIZED,
    extra={
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(QUANTIZED),
    },
)
"""Q/DQ on the inputs of what multiplies, and nowhere else: what NVIDIA recommends ("Working with Quantized Types",
Q/DQ placement), since outputs quantized too keep TensorRT from fusing the Relu or Add behind them."""


def lower(model: ModelProto, source: Compressed, precision: str) -> Quantized:
    """The network as recipe and option ask. Raises `Unsupported` for what TensorRT does not have."""
    spec = source.quant
    if spec is None or spec.kind in HALVES:
        return _cast(model, spec, precision)
    _check(spec, precision)
    if spec.kind == "static":
        done = quantize.quantize_statically(model, spec, load_calibration(source, spec.samples), LAYOUT)
    else:
        done = _pack(model, spec, precision)
    if precision in HALVES:
        done = replace(done, model=cast_to_half(done.model, precision, spec).model)
    return replace(done, facts={**done.facts, "rest": precision})


def _cast(model: ModelProto, spec: QuantSpec | None, precision: str) -> Quantized:
    """No integers beyond those the file brings: float32, TF32 or half precision."""
    wanted = spec.kind if spec else precision
    if precision in HALVES and precision != wanted:
        raise Unsupported(f"the recipe asks for {wanted}, the backend's option for {precision}")
    split = split_by_precision(model.graph)
    done = Quantized(model=model, precision=FLOAT32 if wanted == "float32" else Precision(asked=wanted))
    if wanted in HALVES:
        done = cast_to_half(model, wanted, spec or QuantSpec(kind=wanted))
    if split.quantized:
        return replace(done, precision=Precision(asked="int8", keep_float=split.left, from_file=True))
    return done


def _check(spec: QuantSpec, precision: str) -> None:
    if spec.kind == "dynamic":
        raise Unsupported("TensorRT has no dynamic int8: its ranges are fixed in the file; use int8()")
    if spec.kind not in ("static", "weight_only"):
        raise Unsupported(f"TensorRT has no quantization of kind {spec.kind!r}")
    if spec.kind == "weight_only" and spec.weight_bits == 16 and precision in HALVES:
        raise Unsupported(
            f"the recipe asks for float16 weights around float32 products, the backend's option for {precision}: "
            "the weights would be rounded twice; take float16() or precision = 'float32'"
        )
    if not spec.weight_symmetric or (spec.kind == "static" and not spec.activation_symmetric):
        raise Unsupported("TensorRT quantizes symmetrically (zero point 0): ask for symmetric int8")
    if spec.kind == "static" and (spec.weight_bits, spec.activation_bits) != (8, 8):
        asked = f"{spec.weight_bits}-bit weights and {spec.activation_bits}-bit activations"
        raise Unsupported(f"TensorRT multiplies integers of 8 bits, not {asked}")


def _pack(model: ModelProto, spec: QuantSpec, precision: str) -> Quantized:
    """Packed weights where TensorRT unpacks them; other layers stay float, with the reason in `facts`."""
    left = _find_unpackable(model, spec)
    if len(left) == len(graph.layers(model.graph)):
        raise Unsupported("no weight can be packed: " + "; ".join(f"{name}: {why}" for name, why in left.items()))
    done = quantize.pack_weights(model, replace(spec, keep_float=(*spec.keep_float, *left)))
    kept = {node.name for node in graph.layer_nodes(model.graph, spec.keep_float)}
    float32 = precision == "float32"
    packed = Precision(
        asked="weight_only" if float32 else precision,
        delivered="float32" if float32 else "",
        keep_float=tuple(name for name in done.precision.keep_float if name in kept),
        stayed_float=tuple(name for name in done.precision.keep_float if name not in kept),
    )
    return replace(done, precision=packed, facts={**done.facts, "not_packed": dict(left)})


def _find_unpackable(model: ModelProto, spec: QuantSpec) -> dict[str, str]:
    """Layer -> why its weight cannot be packed. TensorRT wants whole blocks along an axis of a matrix."""
    shapes = {item.name: list(item.dims) for item in model.graph.initializer}
    found = {name: _explain_unpackable(nodes[0], shapes, spec) for name, nodes in graph.layers(model.graph).items()}
    return {name: why for name, why in found.items() if why}


def _explain_unpackable(node: NodeProto, shapes: Mapping[str, list[int]], spec: QuantSpec) -> str:
    if node.op_type in RECURRENT:
        return "TensorRT takes the weights of recurrent layers as constants only"
    shape = shapes[node.input[1]]
    if node.op_type not in ("Gemm", "MatMul"):
        return "TensorRT packs the weights of matrix products only" if spec.weight_bits == 4 else ""
    turned = node.op_type == "Gemm" and any(item.name == "transB" and item.i for item in node.attribute)
    inputs = shape[-1] if turned else shape[-2]
    if 0 < spec.block_size < inputs and inputs % spec.block_size:
        return f"{inputs} inputs do not make whole blocks of {spec.block_size}"
    return ""
