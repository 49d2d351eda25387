"""TFLite operators one by one, in files written with the schema LiteRT ships."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cost.count import cost_of
from bench.errors import InvalidInput
from bench.types import Cost

flatbuffers = pytest.importorskip("flatbuffers", reason="needed to write TFLite files")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needed to write TFLite files")

LAWS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES = {np.dtype("f4"): 0, np.dtype("f2"): 1, np.dtype("i4"): 2, np.dtype("i8"): 4, np.dtype("i1"): 9}


class Writer:
    """A graph in the making: tensors by number, buffer 0 empty as the format demands."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [self.buffer(b"")]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    @staticmethod
    def buffer(content: bytes) -> Any:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8) if content else None
        return buffer

    def activation(self, *shape: int, kind: int = 0, signature: list[int] | None = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), kind, f"t{len(self.graph.tensors)}"
        tensor.shapeSignature = signature
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(
        self, values: np.ndarray, *, points: list[int] | None = None, axis: int = 0, kind: int = -1, raw: bytes = b""
    ) -> int:
        index = self.activation(*values.shape, kind=TYPES[values.dtype] if kind < 0 else kind)
        tensor = self.graph.tensors[index]
        self.model.buffers.append(self.buffer(raw or values.tobytes()))
        tensor.buffer = len(self.model.buffers) - 1
        if points is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [0.5] * len(points)
            tensor.quantization.zeroPoint, tensor.quantization.quantizedDimension = points, axis
        return index

    def operator(self, name: str, inputs: list[int], output: int, options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)

    def cost(self, folder: Path, inputs: list[int], outputs: list[int]) -> Cost:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        (folder / "m.tflite").write_bytes(bytes(builder.Output()))
        return cost_of(folder / "m.tflite")


def sparse(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.uniform(0.1, 1, shape) * (random.uniform(size=shape) < 0.6)).astype(np.float32)


@LAWS
@given(
    filters=st.integers(1, 4), channels=st.integers(1, 3), groups=st.integers(1, 3), k=st.integers(1, 3),
    side=st.integers(1, 4), batch=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_conv_takes_one_mac_for_every_tap_of_every_output(
    tmp_path: Path, filters: int, channels: int, groups: int, k: int, side: int, batch: int, seed: int
) -> None:
    writer, weight = Writer(), sparse(filters * groups, k, k, channels, seed=seed)
    x = writer.activation(batch, side + k - 1, side + k - 1, channels * groups)
    y = writer.activation(batch, side, side, filters * groups)
    bias = writer.constant(np.ones(filters * groups, np.float32))
    writer.operator("CONV_2D", [x, writer.constant(weight), bias], y)
    cost = writer.cost(tmp_path, [x], [y])
    macs = nonzero = 0
    for out, _, _, i, j, channel in product(
        range(filters * groups), range(side), range(side), range(k), range(k), range(channels)
    ):
        macs += 1
        nonzero += weight[out, i, j, channel] != 0
    assert (cost.macs, cost.nonzero_macs, cost.params) == (macs, nonzero, weight.size + filters * groups)
    assert cost.layers[0].output_shape == (1, side, side, filters * groups)


def test_depthwise_transposed_and_three_dimensional_convolutions(tmp_path: Path) -> None:
    writer = Writer()
    x, a, b = writer.activation(1, 6, 6, 4), writer.activation(1, 6, 6, 8), writer.activation(1, 12, 12, 3)
    writer.operator("DEPTHWISE_CONV_2D", [x, writer.constant(sparse(1, 3, 3, 8))], a)
    size = writer.constant(np.array([1, 12, 12, 3], np.int32))
    writer.operator("TRANSPOSE_CONV", [size, writer.constant(sparse(3, 2, 2, 8)), a], b)
    cost = writer.cost(tmp_path, [x], [b])
    assert [layer.macs for layer in cost.layers] == [36 * 9 * 8, 36 * 8 * 3 * 4]
    assert cost.params == 72 + 96
    deep = Writer()
    x, y = deep.activation(1, 4, 4, 4, 2), deep.activation(1, 3, 3, 3, 5)
    deep.operator("CONV_3D", [x, deep.constant(sparse(2, 2, 2, 2, 5))], y)
    assert deep.cost(tmp_path, [x], [y]).macs == 27 * 80


@LAWS
@given(m=st.integers(1, 4), k=st.integers(1, 4), n=st.integers(1, 4), x=st.booleans(), y=st.booleans())
def test_a_batched_product_of_activations_sums_over_the_shared_axis(
    tmp_path: Path, m: int, k: int, n: int, x: bool, y: bool
) -> None:
    writer, options = Writer(), schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = x, y
    a = writer.activation(1, 2, *((k, m) if x else (m, k)))
    b = writer.activation(1, 2, *((n, k) if y else (k, n)))
    out = writer.activation(1, 2, m, n)
    writer.operator("BATCH_MATMUL", [a, b], out, options)
    cost = writer.cost(tmp_path, [a, b], [out])
    assert (cost.macs, cost.nonzero_macs, cost.params) == (2 * m * k * n, 2 * m * k * n, 0)


@pytest.mark.parametrize(("points", "axis"), [([3], 0), ([3, -1, 0, 5], 0), ([1, 2, 3], 1)])
def test_a_quantized_weight_is_zero_at_its_zero_point(tmp_path: Path, points: list[int], axis: int) -> None:
    writer, values = Writer(), np.random.default_rng(1).integers(-3, 6, (4, 3)).astype(np.int8)
    x, y = writer.activation(1, 3, kind=9), writer.activation(1, 4, kind=9)
    writer.operator("FULLY_CONNECTED", [x, writer.constant(values, points=points, axis=axis), -1], y)
    cost = writer.cost(tmp_path, [x], [y])
    every = points * 12 if len(points) == 1 else points
    nonzero = sum(values[i, j] != every[(i, j)[axis]] for i, j in product(range(4), range(3)))
    assert (cost.params, cost.nonzero_params, cost.nonzero_macs, cost.macs) == (12, nonzero, nonzero, 12)
    assert cost.weight_bytes == 12 + 12 * len(points)


def test_four_bit_weights_occupy_half_a_byte(tmp_path: Path) -> None:
    """Low half first, in two's complement; zero where they are their zero point."""
    writer, values = Writer(), np.array([[0, 1, -8, 7], [-1, -1, 0, 5]], np.int8)
    nibbles = values.flatten() & 15
    raw = (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()
    for points, nonzero in (([0], 6), ([-1], 6), ([-8], 7)):
        writer = Writer()
        x, y = writer.activation(1, 4), writer.activation(1, 2)
        writer.operator("FULLY_CONNECTED", [x, writer.constant(values, points=points, kind=17, raw=raw), -1], y)
        cost = writer.cost(tmp_path, [x], [y])
        assert (cost.params, cost.nonzero_params, cost.weight_bytes) == (8, nonzero, 4 + 4 + 8)


def test_half_precision_weights_behind_a_dequantization_count_once_at_two_bytes(tmp_path: Path) -> None:
    writer = Writer()
    x, wide, y = writer.activation(1, 5), writer.activation(3, 5), writer.activation(1, 3)
    writer.operator("DEQUANTIZE", [writer.constant(sparse(3, 5).astype(np.float16))], wide)
    writer.operator("FULLY_CONNECTED", [x, wide, -1], y)
    cost = writer.cost(tmp_path, [x], [y])
    assert [layer.operator for layer in cost.layers] == ["FULLY_CONNECTED"]
    assert (cost.params, cost.macs, cost.weight_bytes) == (15, 15, 30)
    assert cost.nonzero_macs == np.count_nonzero(sparse(3, 5))


def test_a_recurrent_cell_uses_every_weight_at_every_step(tmp_path: Path) -> None:
    writer = Writer()
    x, y, state = writer.activation(1, 7, 5), writer.activation(1, 7, 3), writer.activation(1, 3)
    inputs = [writer.constant(sparse(3, 5, seed=i)) for i in range(4)]
    recurrent = [writer.constant(sparse(3, 3, seed=i)) for i in range(4)]
    biases = [writer.constant(np.ones(3, np.float32)) for _ in range(4)]
    cell = writer.activation(1, 3)
    places = [x, *inputs, *recurrent, -1, -1, -1, *biases, -1, -1, state, cell]
    writer.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", places, y)
    cost = writer.cost(tmp_path, [x], [y])
    assert (cost.macs, cost.params) == (7 * 4 * (15 + 9), 4 * (15 + 9 + 3))
    zeros = sum(np.count_nonzero(sparse(3, k, seed=i) == 0) for k in (5, 3) for i in range(4))
    assert cost.nonzero_macs == cost.macs - 7 * zeros


def test_what_has_no_rule_is_listed(tmp_path: Path) -> None:
    writer = Writer()
    x, h, y = writer.activation(1, 4), writer.activation(1, 4), writer.activation(1, 4)
    writer.operator("STABLEHLO_DOT_GENERAL", [x, x], h)
    writer.operator("CUSTOM", [h], y)
    writer.model.operatorCodes[1].customCode = "Whistle"
    assert writer.cost(tmp_path, [x], [y]).unknown == ("CUSTOM Whistle", "STABLEHLO_DOT_GENERAL")


def test_a_custom_operator_of_constants_runs_and_is_listed(tmp_path: Path) -> None:
    writer = Writer()
    x, h, y = writer.activation(1, 4), writer.activation(1, 4), writer.activation(1, 4)
    writer.operator("CUSTOM", [writer.constant(np.ones((1, 4), np.float32))], h)
    writer.model.operatorCodes[0].customCode = "Whistle"
    writer.operator("ADD", [x, h], y)
    cost = writer.cost(tmp_path, [x], [y])
    assert cost.unknown == ("CUSTOM Whistle",)
    assert [layer.operator for layer in cost.layers] == ["CUSTOM Whistle", "ADD"]


def test_a_free_batch_is_one_and_another_free_axis_is_told(tmp_path: Path) -> None:
    for signature, told in (([-1, 4, 4, 2], ()), ([-1, -1, 4, 2], ("input 't0'",))):
        writer = Writer()
        x, y = writer.activation(1, 4, 4, 2, signature=signature), writer.activation(1, 4, 4, 2, signature=signature)
        writer.operator("RELU", [x], y)
        unknown = writer.cost(tmp_path, [x], [y]).unknown
        assert tuple(entry.split(" (")[0] for entry in unknown) == told


def test_an_operator_that_uses_a_tensor_outside_the_file_is_refused(tmp_path: Path) -> None:
    writer = Writer()
    x, y = writer.activation(1, 4), writer.activation(1, 4)
    writer.operator("RELU", [x], y)
    writer.graph.operators[0].inputs = [9]
    with pytest.raises(InvalidInput, match=r"m\.tflite.*outside the 2 there are"):
        writer.cost(tmp_path, [x], [y])


def test_a_layer_is_called_what_its_output_is_without_the_modules_of_its_scopes(tmp_path: Path) -> None:
    writer = Writer()
    x, y = writer.activation(1, 4), writer.activation(1, 4)
    writer.operator("RELU", [x], y)
    writer.graph.tensors[y].name = "a.b.Sequential/torch.nn.modules.conv.Conv2d_0;a.b.Sequential/other"
    assert writer.cost(tmp_path, [x], [y]).layers[0].name == "Sequential/Conv2d_0"


def test_parameters_do_not_need_the_sizes_that_only_a_run_shows(tmp_path: Path) -> None:
    writer = Writer()
    x = writer.activation(1, 4, 4, 3)
    cut = writer.activation(1, 1, 1, 3, signature=[1, -1, -1, 3])
    y = writer.activation(1, 1, 1, 2, signature=[1, -1, -1, 2])
    writer.operator("WHERE", [x], cut)
    weight, bias = writer.constant(sparse(2, 3, 3, 3)), writer.constant(np.ones(2, np.float32))
    writer.operator("CONV_2D", [cut, weight, bias], y)
    cost = writer.cost(tmp_path, [x], [y])
    assert (cost.params, cost.macs) == (56, 0)
    assert "CONV_2D (shape of an operand known at run time only)" in cost.unknown
