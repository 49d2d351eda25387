"""Files that no quantizer takes are refused before inputs to calibrate on are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported
from bench.formats.quantized import describe_rest, refuse_unquantizable
from bench.models.from_onnx.load import load_network
from bench.types import Model


def written(path: Path, nodes: list[onnx.NodeProto], kind: str = "float32", *, ends: int = TensorProto.FLOAT) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", ends, ["N", 4])],
        [helper.make_tensor_value_info("y", ends, ["N", 4])],
        [
            numpy_helper.from_array(np.eye(4).astype(kind), "w"),
            numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


N = helper.make_node
PRODUCT = [N("MatMul", ["x", "w"], ["y"], "fc")]
ROUNDED = [
    N("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
    N("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
    N("MatMul", ["r", "w"], ["y"], "fc"),
]
UNPACKED = [N("Cast", ["w"], ["wide"], to=TensorProto.FLOAT), N("MatMul", ["x", "wide"], ["y"], "fc")]


@pytest.mark.parametrize(
    ("nodes", "kind", "ends", "why"),
    [
        (
            ROUNDED,
            "float32",
            TensorProto.FLOAT,
            "quantized already \\(1 DequantizeLinear, 1 QuantizeLinear\\): measure it",
        ),
        (PRODUCT, "float16", TensorProto.FLOAT16, "computes in float16, and quantizers take float32: export it"),
        (PRODUCT, "float64", TensorProto.DOUBLE, "computes in float64, and quantizers take float32: export it"),
    ],
)
def test_what_every_quantizer_refuses_is_said_before_calibration_is_asked_for(nodes, kind, ends, why, tmp_path):
    file = written(tmp_path / "net.onnx", nodes, kind, ends=ends)
    with pytest.raises(Unsupported, match=why):
        compress(
            Model(name="net", file=file),
            parse_recipe("r", "int8()"),
            data=None,
            cache=tmp_path / "cache",
            seed=0,
            progress=lambda what, done: None,
        )


def test_a_step_that_cannot_take_a_quantized_file_does_not_advise_to_quantize_it(tmp_path):
    for nodes, rest in ((ROUNDED, "give the float one; it can be measured as it is"), (PRODUCT, "")):
        file = written(tmp_path / "net.onnx", nodes)
        if not rest:
            assert describe_rest(file) == "it can be measured as it is and quantized"
            continue
        with pytest.raises(Unsupported, match=f"{rest}$"):
            load_network(file, Model(name="net", file=file))


@pytest.mark.parametrize(("nodes", "kind"), [(PRODUCT, "float32"), (UNPACKED, "float16")])
def test_a_network_that_multiplies_in_float32_is_taken(nodes, kind, tmp_path):
    refuse_unquantizable(written(tmp_path / "net.onnx", nodes, kind))


@pytest.mark.parametrize(("name", "held"), [("ad01_int8", "int8"), ("ad01_fp32", "")])
def test_a_tflite_file_with_scales_is_quantized(name, held):
    file = Path(__file__).parents[4] / "shared" / "cases" / "tflite" / f"{name}.tflite"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    if not held:
        refuse_unquantizable(file)
        return
    with pytest.raises(Unsupported, match=f"quantized already \\(it holds {held}\\)"):
        refuse_unquantizable(file)
