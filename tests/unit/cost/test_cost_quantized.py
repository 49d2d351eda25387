"""What a runtime's own tools make of a network costs the same work and the same parameters, in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.cost.count import cost_of
from bench.types import Cost

ort = pytest.importorskip("onnxruntime", reason="onnxruntime's quantizer is not installed")

SHAPE = (3, 12, 12)


def weight(*shape: int) -> np.ndarray:
    """No value so small that eight bits make it zero, half of the first row exactly zero."""
    random = np.random.default_rng(len(shape))
    values = random.uniform(0.2, 1, shape) * random.choice([-1, 1], shape)
    values[0, : max(1, shape[1] // 2)] = 0
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions plain, depthwise and transposed, a residual sum and two linear layers, as exporters write them."""
    constants = {
        "stem.weight": weight(8, 3, 3, 3),
        "stem.bias": np.ones(8, np.float32),
        "depth.weight": weight(8, 1, 3, 3),
        "up.weight": weight(8, 4, 2, 2),
        "hidden.weight": weight(16, 64),
        "hidden.bias": np.ones(16, np.float32),
        "out.weight": weight(64, 10),
        "axes": np.array([2, 3]),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    nodes = [
        helper.make_node("Conv", ["input", "stem.weight", "stem.bias"], ["a"], pads=[1] * 4),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "depth.weight"], ["c"], pads=[1] * 4, group=8),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "up.weight"], ["e"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["e", "axes"], ["f"], keepdims=0),
        helper.make_node("Gemm", ["f", "wide.weight"], ["g"]),
        helper.make_node("Gemm", ["g", "hidden.weight", "hidden.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("MatMul", ["i", "last.weight"], ["output"]),
    ]
    constants["wide.weight"], constants["last.weight"] = weight(4, 64), weight(16, 10)
    del constants["out.weight"]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    file = tmp_path_factory.mktemp("float") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


class Samples:
    """Three batches, in the shape onnxruntime's calibration asks for."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.feeds: Iterator[Mapping[str, np.ndarray]] = iter(
            [{"input": random.normal(size=(2, *SHAPE)).astype(np.float32)} for _ in range(3)]
        )

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self.feeds, None)


def static(source: Path, out: Path, *, form: str, per_channel: bool, activation: str) -> Cost:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(Samples)
    quantize_static(
        source,
        out,
        Samples(),
        quant_format=QuantFormat[form],
        per_channel=per_channel,
        activation_type=QuantType[activation],
        weight_type=QuantType.QInt8,
    )
    return cost_of(out)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_static_int8_is_the_same_network_in_fewer_bytes(
    float_file: Path, tmp_path: Path, form: str, per_channel: bool
) -> None:
    whole = cost_of(float_file)
    activation = "QInt8" if form == "QDQ" else "QUInt8"
    cost = static(float_file, tmp_path / "q.onnx", form=form, per_channel=per_channel, activation=activation)
    assert cost.unknown == ()
    assert (cost.params, cost.macs) == (whole.params, whole.macs)
    assert cost.nonzero_macs == whole.nonzero_macs < whole.macs
    assert cost.nonzero_params == whole.nonzero_params
    assert cost.weight_bytes < 0.6 * whole.weight_bytes
    assert {layer.name for layer in cost.layers if layer.macs} == {layer.name for layer in whole.layers if layer.macs}


def test_the_activations_of_a_static_int8_graph_are_a_quarter(float_file: Path, tmp_path: Path) -> None:
    """The float tensors between a dequantization and the next quantization exist in no runtime."""
    whole = cost_of(float_file)
    cost = static(float_file, tmp_path / "q.onnx", form="QDQ", per_channel=True, activation="QInt8")
    assert cost.peak_activation_bytes < 0.4 * whole.peak_activation_bytes
    assert cost.activation_bytes < 0.4 * whole.activation_bytes


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_int8_is_the_same_network(float_file: Path, tmp_path: Path, per_channel: bool) -> None:
    """Scales, one for each channel too, are no parameters."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = cost_of(float_file)
    kind = QuantType.QInt8 if per_channel else QuantType.QUInt8
    quantize_dynamic(float_file, tmp_path / "d.onnx", weight_type=kind, per_channel=per_channel)
    cost = cost_of(tmp_path / "d.onnx")
    assert cost.unknown == ()
    assert (cost.params, cost.macs, cost.nonzero_macs) == (whole.params, whole.macs, whole.nonzero_macs)
    assert {layer.operator for layer in cost.layers} >= {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}


def test_scales_of_a_layer_behind_a_quantized_table_are_no_parameters(tmp_path: Path) -> None:
    """Both scales are stored: a DynamicQuantizeLinear finds none of them."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 4])],
        [numpy_helper.from_array(weight(*shape), name) for name, shape in (("table", (9, 8)), ("w", (8, 4)))],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    quantize_dynamic(source, tmp_path / "d.onnx", weight_type=QuantType.QInt8, per_channel=True)
    assert cost_of(tmp_path / "d.onnx").params == 9 * 8 + 8 * 4


def test_four_bit_weights_are_the_same_network(float_file: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    whole = cost_of(float_file)
    quantizer = MatMulNBitsQuantizer(onnx.load(float_file), block_size=16, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(tmp_path / "n.onnx"), False)
    cost = cost_of(tmp_path / "n.onnx")
    packed = next(layer for layer in cost.layers if layer.operator == "com.microsoft.MatMulNBits")
    assert cost.unknown == ()
    assert (cost.params, cost.macs) == (whole.params, whole.macs)
    assert (packed.name, packed.params, packed.output_shape) == ("last", 160, (1, 10))
    assert packed.weight_bytes == 160 // 2 + 4 * 10


@pytest.mark.parametrize("quantized", [False, True])
def test_the_graph_a_runtime_fused_for_itself_is_the_same_network(
    float_file: Path, tmp_path: Path, quantized: bool
) -> None:
    """FusedConv, FusedGemm, QLinearConv, QGemm and their kind, which onnx itself has no shapes for."""
    whole, source = cost_of(float_file), float_file
    if quantized:
        source = tmp_path / "q.onnx"
        static(float_file, source, form="QDQ", per_channel=True, activation="QUInt8")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    cost = cost_of(tmp_path / "fused.onnx")
    operators = {layer.operator for layer in cost.layers}
    assert operators & {"com.microsoft.FusedConv", "com.microsoft.FusedGemm", "com.microsoft.QGemm"}
    assert cost.unknown == ()
    assert (cost.params, cost.macs, cost.nonzero_macs) == (whole.params, whole.macs, whole.nonzero_macs)


def test_a_graph_blocked_for_one_processor_says_what_could_not_be_counted(float_file: Path, tmp_path: Path) -> None:
    """NCHWc convolutions pad and reorder their weights: their MACs are not claimed."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "blocked.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(float_file, options, providers=["CPUExecutionProvider"])
    if not any(node.domain == "com.microsoft.nchwc" for node in onnx.load(tmp_path / "blocked.onnx").graph.node):
        pytest.skip("this processor has no blocked convolutions")
    cost = cost_of(tmp_path / "blocked.onnx")
    assert "com.microsoft.nchwc.Conv" in cost.unknown
    assert cost.macs < cost_of(float_file).macs
