"""What the TensorRT compiler writes into the file: types, Q/DQ, batch; and what it refuses, with the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from ort_nets import SHAPE, calibration, compressed, convnet, samples, save

from backends.ort.compile import OrtBackend
from backends.trt.compile import TrtBackend
from bench.errors import InvalidInput, Unsupported
from bench.types import Artifact, Conditions, Precision, QuantSpec, Scalar

INT8 = QuantSpec(kind="static")
INT4 = QuantSpec(kind="weight_only", weight_bits=4, block_size=8)
FLOAT16_WEIGHTS = QuantSpec(kind="weight_only", weight_bits=16)
QDQ = {"QuantizeLinear", "DequantizeLinear"}
CASES = {
    "float32": (None, "float32", 1e-5),
    "tf32": (None, "tf32", 1e-5),
    "float16 by the recipe": (QuantSpec(kind="float16"), "float32", 1e-2),
    "float16 by the option": (None, "float16", 1e-2),
    "int8": (INT8, "float32", 0.1),
    "int8 per tensor": (QuantSpec(kind="static", per_channel=False), "float32", 0.1),
    "int8 entropy": (QuantSpec(kind="static", calibration="entropy"), "float32", 0.1),
    "int8, the rest float16": (INT8, "float16", 0.1),
    "int4 blocks": (INT4, "float32", 0.3),
    "float16 weights": (FLOAT16_WEIGHTS, "float32", 2e-3),
    "float16 weights, tf32": (FLOAT16_WEIGHTS, "tf32", 2e-3),
    "int8 weights": (QuantSpec(kind="weight_only"), "float32", 0.05),
    "int8 weights, the rest float16": (QuantSpec(kind="weight_only"), "float16", 0.05),
}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return convnet(tmp_path / "net.onnx")


def made(net: Path, out: Path, quant: QuantSpec | None = None, *, batch: int = 2, **options: Scalar) -> Artifact:
    out.mkdir(parents=True, exist_ok=True)
    data = calibration(out.parent / f"{out.name}.npz") if quant and quant.kind == "static" else None
    return TrtBackend().compile(compressed(net, quant, data), Conditions(batch=batch), options, out)


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def stored(path: Path) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer}


@pytest.mark.parametrize("name", CASES)
def test_every_file_is_valid_and_agrees_with_the_float_file_on_another_runtime(name, net, tmp_path):
    quant, precision, tolerance = CASES[name]
    artifact = made(net, tmp_path / "out", quant, precision=precision)
    onnx.checker.check_model(onnx.load(str(artifact.path)), full_check=True)
    x = samples(2)
    found, wanted = outputs(artifact.path, x), outputs(net, x)
    assert found.dtype == np.float32, "inputs and outputs stay float32"
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("quant", [None, INT8])
def test_bfloat16_weights_are_the_float32_ones_rounded_once(net, tmp_path, quant):
    path = made(net, tmp_path / "out", quant, precision="bfloat16").path
    model = onnx.load(str(path))
    assert not [item.name for item in model.graph.initializer if item.data_type == TensorProto.FLOAT16]
    originals, written = stored(net), stored(path)
    for name in ("stem.bias", "head.bias") if quant else ("stem.weight", "depthwise.weight", "head.bias"):
        assert written[name].dtype == ml_dtypes.bfloat16
        assert np.array_equal(written[name], originals[name].astype(ml_dtypes.bfloat16))
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


def test_a_bfloat16_file_widened_again_agrees_with_the_float_file(net, tmp_path):
    model = onnx.load(str(made(net, tmp_path / "out", precision="bfloat16").path))
    for item in model.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float32), item.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    del model.graph.value_info[:]
    onnx.save(model, str(tmp_path / "wide.onnx"))
    x = samples(2)
    found, wanted = outputs(tmp_path / "wide.onnx", x), outputs(net, x)
    assert np.abs(found - wanted).max() <= 1e-2 * np.abs(wanted).max()


def test_quantization_is_symmetric_int8_before_what_multiplies_and_nowhere_else(net, tmp_path):
    graph = onnx.load(str(made(net, tmp_path / "out", INT8).path)).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    zero_points = [arrays[node.input[2]] for node in graph.node if node.op_type in QDQ]
    assert {zero.dtype for zero in zero_points} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zero_points)
    fed = [readers[node.output[0]] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert set(fed) == {"Conv", "Gemm"}
    assert Counter(node.op_type for node in graph.node)["QuantizeLinear"] == 3
    assert arrays["stem.bias"].dtype == np.float32, "TensorRT takes no quantized bias"


def test_a_layer_kept_float_stays_float_and_is_told_to_the_session(net, tmp_path):
    artifact = made(net, tmp_path / "out", QuantSpec(kind="static", keep_float=("head",)))
    assert stored(artifact.path)["head.weight"].dtype == np.float32
    assert artifact.precision == Precision(asked="int8", keep_float=("n6",))


def test_compile_leaves_its_inputs_alone_and_repeats_itself(net, tmp_path):
    before = net.read_bytes()
    artifacts = [made(net, tmp_path / name, INT8) for name in ("a", "b")]
    assert net.read_bytes() == before
    assert artifacts[0].path.read_bytes() == artifacts[1].path.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("quant", "reason"),
    [
        (QuantSpec(kind="dynamic"), "no dynamic int8"),
        (QuantSpec(kind="static", activation_symmetric=False), "zero point 0"),
        (QuantSpec(kind="static", weight_symmetric=False, per_channel=False), "zero point 0"),
        (QuantSpec(kind="weight_only", weight_symmetric=False), "zero point 0"),
        (QuantSpec(kind="static", activation_bits=16), "16-bit activations"),
        (QuantSpec(kind="static", weight_bits=4), "4-bit weights"),
        (QuantSpec(kind="ternary"), "kind 'ternary'"),
    ],
)
def test_what_tensorrt_has_not_is_a_skip_with_the_reason(net, tmp_path, quant, reason):
    with pytest.raises(Unsupported, match=reason):
        made(net, tmp_path / "out", quant)


def test_a_recipe_and_an_option_that_contradict_each_other_are_unsupported(net, tmp_path):
    with pytest.raises(Unsupported, match="asks for float16, the backend's option for bfloat16"):
        made(net, tmp_path / "out", QuantSpec(kind="float16"), precision="bfloat16")


@pytest.mark.parametrize("quant", [None, INT8])
def test_a_bias_that_float16_does_not_hold_is_refused_beside_int8_too(quant, net, tmp_path):
    model = onnx.load(str(net))
    bias = next(item for item in model.graph.initializer if item.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(2e5), bias.name))
    onnx.save(model, str(net))
    with pytest.raises(Unsupported, match=r"float16 holds .* 'head.bias'"):
        made(net, tmp_path / "out", quant, precision="float16")
    made(net, tmp_path / "wide", quant, precision="bfloat16")


def test_packed_weights_are_whole_blocks_of_matrices_and_every_other_layer_says_why_not(net, tmp_path):
    artifact = made(net, tmp_path / "out", INT4)
    assert artifact.precision == Precision(asked="weight_only", delivered="float32", stayed_float=("n0", "n2"))
    assert artifact.facts["not_packed"] == dict.fromkeys(
        ("stem", "depthwise"), "TensorRT packs the weights of matrix products only"
    )
    with pytest.raises(Unsupported, match="head: 16 inputs do not make whole blocks of 3"):
        made(net, tmp_path / "odd", QuantSpec(kind="weight_only", weight_bits=4, block_size=3))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_float16_weights_under_a_half_precision_option_are_refused_not_rounded_twice(net, tmp_path, precision):
    with pytest.raises(Unsupported, match=f"option for {precision}: the weights would be rounded twice"):
        made(net, tmp_path / "out", FLOAT16_WEIGHTS, precision=precision)


def test_static_quantization_without_data_is_invalid(net, tmp_path):
    with pytest.raises(InvalidInput, match="needs calibration data"):
        TrtBackend().compile(compressed(net, INT8, None), Conditions(), {}, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workspace_mib": -1}, "number of MiB"),
        ({"workspace_mib": "much"}, "number of MiB"),
        ({"cache": 3}, "a folder on the target"),
    ],
)
def test_free_options_are_checked_by_what_they_can_mean(net, tmp_path, options, message):
    with pytest.raises(InvalidInput, match=message):
        made(net, tmp_path / "out", **options)


def quantized(tmp_path: Path, zero: np.ndarray | None, values: np.ndarray) -> Path:
    """One Conv behind Q/DQ with these zero points."""
    scale = {"scale": np.array(0.1), "w_scale": np.array(0.01), "w_q": values}
    zeros = {} if zero is None else {"zero": zero}
    quantizer = ["scale"] if zero is None else ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["input", *quantizer], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", *quantizer], ["x"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale"], ["w"], name="weights"),
        helper.make_node("Conv", ["x", "w"], ["output"], name="conv"),
    ]
    return save(tmp_path / "own.onnx", nodes, {**scale, **zeros}, ["batch", *SHAPE], ["batch", 8, 14, 14])


WEIGHTS = np.random.default_rng(0).integers(-127, 127, (8, 3, 3, 3)).astype(np.int8)


@pytest.mark.parametrize(
    ("zero", "values", "reason"),
    [
        (np.array(3, np.int8), WEIGHTS, "quantize: zero point 3"),
        (np.array(128, np.uint8), WEIGHTS, "quantize: uint8 values; quantize: zero point 128"),
        (np.array(0, np.uint8), WEIGHTS, "quantize: uint8 values"),
        (None, WEIGHTS, "quantize: no zero point, which means uint8 values"),
        (np.array(0, np.int8), WEIGHTS.view(np.uint8), "weights: uint8 values"),
        (np.array(0, np.int16), WEIGHTS, "quantize: int16 values"),
    ],
)
def test_a_file_with_a_zero_point_or_unsigned_values_is_unsupported_by_node(tmp_path, zero, values, reason):
    with pytest.raises(Unsupported, match=f"own.onnx: TensorRT quantizes symmetrically.*{reason}"):
        made(quantized(tmp_path, zero, values), tmp_path / "out")


def test_a_file_that_brings_symmetric_qdq_asks_for_int8_itself(tmp_path):
    artifact = made(quantized(tmp_path, np.array(0, np.int8), WEIGHTS), tmp_path / "out")
    assert artifact.precision == Precision(asked="int8", from_file=True)


def test_a_file_with_dynamic_int8_is_unsupported_by_node(net, tmp_path):
    (tmp_path / "dynamic").mkdir()
    dynamic = OrtBackend().compile(
        compressed(net, QuantSpec(kind="dynamic")), Conditions(batch=2), {}, tmp_path / "dynamic"
    )
    with pytest.raises(Unsupported, match="takes its range at every inference"):
        made(dynamic.path, tmp_path / "out")


def test_biases_that_another_quantizer_stored_as_integers_become_the_floats_they_mean(net, tmp_path):
    path = tmp_path / "theirs.onnx"
    theirs_quantized(net, path)
    artifact = made(path, tmp_path / "out")
    assert artifact.facts["biases_folded"] == 3
    kinds = {item.data_type for item in onnx.load(str(artifact.path)).graph.initializer}
    assert TensorProto.INT32 not in kinds
    x = samples(2)
    assert np.allclose(outputs(artifact.path, x), outputs(path, x), atol=1e-3 * np.abs(outputs(net, x)).max())


def theirs_quantized(net: Path, path: Path) -> None:
    """As ONNX Runtime's quantizer leaves a symmetric int8 file by default."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(samples(8))

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"input": row[None]}

    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    quantize_static(
        net, path, Reader(), per_channel=True, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options=options,
    )  # fmt: skip
