"""Small ONNX networks for the tests of the ONNX Runtime backend, built without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from backends.ort.compile import OrtBackend
from backends.ort.session import OrtSession
from bench.errors import InvalidInput
from bench.inputs.of_file import read_inputs
from bench.types import Artifact, Compressed, Conditions, Model, QuantSpec, Scalar, TensorSpec

SHAPE = (3, 16, 16)


def convnet(path: Path, *, batch: str | int = "batch", opset: int = 20, weights_as_inputs: bool = False) -> Path:
    """Conv, Relu, depthwise Conv, Relu, global mean, Gemm: layers `stem`, `depthwise`, `head`."""
    draw = np.random.default_rng(0)
    tensors = {
        "stem.weight": draw.standard_normal((16, 3, 3, 3)) / 5,
        "stem.bias": draw.standard_normal(16) / 10,
        "depthwise.weight": draw.standard_normal((16, 1, 3, 3)) / 3,
        "depthwise.bias": draw.standard_normal(16) / 10,
        "head.weight": draw.standard_normal((10, 16)),
        "head.bias": draw.standard_normal(10) / 10,
    }
    nodes = [
        helper.make_node("Conv", ["input", "stem.weight", "stem.bias"], ["a"], name="n0", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="n1"),
        helper.make_node("Conv", ["b", "depthwise.weight", "depthwise.bias"], ["c"], name="n2", pads=[1] * 4, group=16),
        helper.make_node("Relu", ["c"], ["d"], name="n3"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="n4"),
        helper.make_node("Flatten", ["e"], ["f"], name="n5"),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["output"], name="n6", transB=1),
    ]
    return save(path, nodes, tensors, [batch, *SHAPE], [batch, 10], opset=opset, weights_as_inputs=weights_as_inputs)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    shape: list[str | int],
    output: list[str | int],
    *,
    opset: int = 20,
    weights_as_inputs: bool = False,
    domains: tuple[str, ...] = (),
) -> Path:
    """A file of these nodes from `input` to `output`; float64 tensors are stored as float32."""
    stored = [
        numpy_helper.from_array(np.asarray(value, np.float32 if value.dtype == np.float64 else value.dtype), name)
        for name, value in tensors.items()
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in stored]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, output)]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=3 if weights_as_inputs else 9), str(path))
    return path


def calibration(path: Path, rows: int = 32) -> Path:
    """Normal noise in the shape of `convnet`'s input."""
    np.savez(path, input=samples(rows, seed=1))
    return path


def samples(rows: int, seed: int = 0) -> np.ndarray:
    """Rows of normal noise."""
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE), dtype=np.float32)


def compressed(path: Path, quant: QuantSpec | None = None, data: Path | None = None) -> Compressed:
    """What the compress stage would hand over."""
    return Compressed(
        model="net", recipe="r", files={"onnx": path}, inputs=specs(path), digest="0", quant=quant, calibration=data
    )


def specs(path: Path) -> tuple[TensorSpec, ...]:
    """Its inputs; () where the file cannot be fed."""
    try:
        return read_inputs(Model(name="net", file=path)).specs
    except InvalidInput:
        return ()


def compiled(
    path: Path,
    out: Path,
    quant: QuantSpec | None = None,
    *,
    batch: int = 1,
    data: Path | None = None,
    **options: Scalar,
) -> Artifact:
    """The artifact of this file; calibration data is made where none is given."""
    out.mkdir(exist_ok=True, parents=True)
    if data is None and quant is not None and quant.kind == "static":
        data = calibration(out / "calibration.npz")
    return OrtBackend().compile(compressed(path, quant, data), Conditions(batch=batch), options, out)


def opened(artifact: Artifact, *, batch: int = 1, threads: int = 1, **options: Scalar) -> OrtSession:
    """The session as `bench.line.measure` opens it."""
    return OrtSession.open(artifact.path, threads=threads, batch=batch, options=options, precision=artifact.precision)
