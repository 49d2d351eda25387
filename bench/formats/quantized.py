"""Files that no quantizer takes: quantized ones, and those that multiply in another float type than float32."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from onnx import ModelProto, TensorProto

from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import load_onnx
from bench.formats.onnx_walk import every_node, every_tensor
from bench.formats.tflite_file import read_tflite

QUANTIZED = re.compile(r"uantizeLinear$|^Q[A-Z]|^DynamicQuantize|Integer|NBits|Bnb4|FpQ4|Float8|Quantized")
"""Names of ONNX operators that only a quantized file has."""
MULTIPLYING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Input 1 is the weight."""
SCALED = {"INT4", "INT8", "UINT8", "INT16"}
"""Types of .tflite that hold numbers with a scale."""
OTHER_FLOATS: Mapping[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}


def refuse_unquantizable(file: Path) -> None:
    """Raises `Unsupported` saying what is in a .onnx or .tflite file that every quantization refuses."""
    if found := _find(file):
        raise Unsupported(f"{file.name}: {found}")


def describe_rest(file: Path) -> str:
    """What is left to do with a file that a step cannot take. One that does not read is named when it is opened."""
    with suppress(InvalidInput):
        if _find(file):
            return "it can be measured as it is"
    return "it can be measured as it is and quantized"


def _find(file: Path) -> str:
    return _find_in_onnx(load_onnx(file)) if file.suffix == ".onnx" else _find_in_tflite(file)


def _find_in_onnx(model: ModelProto) -> str:
    counts = Counter(node.op_type for node in every_node(model.graph) if QUANTIZED.search(node.op_type))
    if counts:
        return _name_quantized(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    stored = {tensor.name: tensor.data_type for tensor in every_tensor(model)}
    weights = [node.input[1] for node in every_node(model.graph) if node.op_type in MULTIPLYING]
    types = {stored.get(name, TensorProto.UNDEFINED) for name in weights}
    if types and types <= set(OTHER_FLOATS):
        kinds = " and ".join(sorted(OTHER_FLOATS[kind] for kind in types))
        return f"the network computes in {kinds}, and quantizers take float32: export it in float32 (in torch, model.float())"
    return ""


def _find_in_tflite(file: Path) -> str:
    tensors = read_tflite(file).tensors
    held = {tensor.kind.name.lower() for tensor in tensors if tensor.quantized and tensor.kind.name in SCALED}
    if any(tensor.kind.name == "FLOAT16" and tensor.raw is not None and len(tensor.dims) > 1 for tensor in tensors):
        held.add("float16")
    return _name_quantized(f"it holds {' and '.join(sorted(held))}") if held else ""


def _name_quantized(what: str) -> str:
    return f"the network is quantized already ({what}): measure it as it is, or bring the float one"
