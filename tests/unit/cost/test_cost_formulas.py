"""The counts against slow loops written straight from the operators' definitions, and the conventions one by one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bench.cost.count import cost_of
from bench.cost.ledger import Flow, Step, Work, peak
from bench.cost.show import cost_json
from bench.types import Cost

LAWS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sparse(shape: tuple[int, ...], seed: int = 0, kept: float = 0.6) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.uniform(0.1, 1, shape) * (random.uniform(size=shape) < kept)).astype(np.float32)


def count(
    folder: Path,
    nodes: list[NodeProto],
    inputs: dict[str, list],
    outputs: list[str],
    constants: dict[str, np.ndarray | TensorProto],
    *,
    opset: int = 21,
    kinds: dict[str, int] | None = None,
) -> Cost:
    tensors = []
    for name, value in constants.items():
        tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(value)
        tensor.name = name
        tensors.append(tensor)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, (kinds or {}).get(k, TensorProto.FLOAT), v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), None) for name in outputs],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    file = folder / "m.onnx"
    file.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return cost_of(file)


@LAWS
@given(data=st.data())
def test_conv_takes_one_mac_for_every_tap_of_every_output(tmp_path: Path, data: st.DataObject) -> None:
    """Taps on padding count, as in every published table."""
    draw = data.draw
    groups, per_group, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride, dilation, pad = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    side = draw(st.integers(6, 8))
    weight = sparse((groups * filters, per_group, *kernel), draw(st.integers(0, 99)))
    attributes = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4, "group": groups}
    cost = count(
        tmp_path,
        [helper.make_node("Conv", ["x", "c.weight"], ["y"], **attributes)],
        {"x": ["n", groups * per_group, side, side]},
        ["y"],
        {"c.weight": weight},
    )
    rows, columns = ((side + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for k in kernel)
    macs = nonzero = 0
    for out, _, _, channel, i, j in product(
        range(groups * filters), range(rows), range(columns), range(per_group), *map(range, kernel)
    ):
        macs += 1
        nonzero += weight[out, channel, i, j] != 0
    assert (cost.macs, cost.nonzero_macs, cost.flops) == (macs, nonzero, 2 * macs)
    assert (cost.params, cost.nonzero_params) == (weight.size, np.count_nonzero(weight))
    assert cost.layers[0].output_shape == (1, groups * filters, rows, columns)


@LAWS
@given(data=st.data())
def test_transposed_conv_takes_one_mac_for_every_weight_an_input_meets(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    groups, per_group, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride, side = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(2, 4))
    weight = sparse((groups * per_group, filters, kernel, kernel), draw(st.integers(0, 99)))
    cost = count(
        tmp_path,
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[stride] * 2, group=groups)],
        {"x": [1, groups * per_group, side, side]},
        ["y"],
        {"w": weight},
    )
    macs = nonzero = 0
    for channel, _, _, out, i, j in product(
        range(groups * per_group), range(side), range(side), range(filters), range(kernel), range(kernel)
    ):
        macs += 1
        nonzero += weight[channel, out, i, j] != 0
    assert (cost.macs, cost.nonzero_macs) == (macs, nonzero)


@LAWS
@given(batch=st.lists(st.integers(1, 3), max_size=2), m=st.integers(1, 4), k=st.integers(1, 5), n=st.integers(1, 4))
def test_matmul_of_activations_takes_outputs_times_the_summed_axis(
    tmp_path: Path, batch: list[int], m: int, k: int, n: int
) -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    cost = count(tmp_path, nodes, {"a": [1, *batch, m, k], "b": [1, *batch, k, n]}, ["y"], {})
    macs = sum(1 for _ in product(*map(range, (*batch, m, n, k))))
    assert (cost.macs, cost.nonzero_macs, cost.params) == (macs, macs, 0)


@LAWS
@given(m=st.integers(1, 4), k=st.integers(1, 6), n=st.integers(1, 6), a=st.booleans(), b=st.booleans())
def test_gemm_counts_the_same_however_its_operands_are_stored(
    tmp_path: Path, m: int, k: int, n: int, a: bool, b: bool
) -> None:
    weight = sparse((n, k) if b else (k, n), 3)
    nodes = [
        helper.make_node("Squeeze", ["x", "first"], ["s"]),
        helper.make_node("Gemm", ["s", "w", "bias"], ["y"], transA=int(a), transB=int(b)),
    ]
    constants = {"w": weight, "bias": sparse((n,)), "first": np.array([0])}
    cost = count(tmp_path, nodes, {"x": [1, k, m] if a else [1, m, k]}, ["y"], constants)
    assert cost.macs == m * k * n
    assert cost.nonzero_macs == m * np.count_nonzero(weight)
    assert cost.params == k * n + n


@pytest.mark.parametrize("batch", ["n", "", 1, 4])
def test_a_batch_written_into_the_file_does_not_change_what_one_sample_costs(tmp_path: Path, batch: str | int) -> None:
    """A Reshape constant that names the batch too."""
    known = isinstance(batch, int)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("Gemm", ["r", "f.weight"], ["y"]),
    ]
    shape = np.array([batch if known else -1, 2 * 9 if known else 18])
    constants = {"w": sparse((2, 3, 2, 2)), "shape": shape, "f.weight": sparse((18, 5))}
    cost = count(tmp_path, nodes, {"x": [batch or None, 3, 4, 4]}, ["y"], constants)
    assert [layer.macs for layer in cost.layers] == [2 * 3 * 4 * 9, 0, 90]
    assert [layer.output_shape for layer in cost.layers] == [(1, 2, 3, 3), (1, 18), (1, 5)]
    assert cost.activation_bytes == 4 * (18 + 5)
    assert cost.peak_activation_bytes == 4 * (48 + 18)
    assert cost.unknown == ()


def test_a_shared_weight_is_stored_once_and_worked_with_twice(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    cost = count(tmp_path, nodes, {"x": ["n", 8]}, ["y"], {"w": sparse((8, 8), kept=1)})
    assert (cost.params, cost.weight_bytes, cost.macs) == (64, 256, 128)


def test_of_a_normalisation_scale_and_bias_are_parameters_and_the_running_figures_are_not(tmp_path: Path) -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", "bn.weight", "b", "mean", "var"], ["y"])]
    four = {name: np.ones(6, np.float32) for name in ("bn.weight", "b", "mean", "var")}
    cost = count(tmp_path, nodes, {"x": ["n", 6, 3, 3]}, ["y"], four)
    assert (cost.params, cost.macs, cost.weight_bytes) == (12, 0, 4 * 24)
    assert cost.layers[0].name == "bn"


def test_an_operator_nobody_knows_is_listed_and_not_counted_as_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["h"], domain="com.microsoft"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    cost = count(tmp_path, nodes, {"x": ["n", 8]}, ["y"], {"w": sparse((8, 8))})
    assert "com.microsoft.Mystery" in cost.unknown
    assert any(entry.startswith("MatMul (") for entry in cost.unknown)


def test_literals_and_shapes_are_no_parameters(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["h"]),
        helper.make_node("Clip", ["h", "low", "high"], ["c"]),
        helper.make_node("Add", ["c", "shift"], ["d"]),
        helper.make_node("Mul", ["d", "scale"], ["e"]),
        helper.make_node("PRelu", ["e", "slope"], ["y"]),
    ]
    literals = {name: np.float32(value) for name, value in (("half", 0.5), ("low", 0), ("high", 6))}
    literals |= {"scale": np.ones(1, np.float32)}
    learned = {"shift": np.ones(8, np.float32), "slope": np.ones(1, np.float32)}
    cost = count(tmp_path, nodes, {"x": ["n", 8]}, ["y"], {**literals, **learned})
    assert cost.params == 8 + 1


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_cell_uses_every_weight_at_every_step(tmp_path: Path, operator: str, gates: int) -> None:
    """Time comes first here: it must not be taken for a batch of samples."""
    steps, features, hidden = 7, 5, 3
    weights = {"w": sparse((1, gates * hidden, features)), "r": sparse((1, gates * hidden, hidden))}
    biases = {"b": np.ones((1, 2 * gates * hidden), np.float32)}
    nodes = [helper.make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=hidden)]
    cost = count(tmp_path, nodes, {"x": [steps, 1, features]}, ["y"], {**weights, **biases})
    per_step = gates * hidden * (features + hidden)
    assert cost.macs == steps * per_step
    assert cost.params == per_step + 2 * gates * hidden
    assert cost.nonzero_macs * per_step == cost.macs * sum(np.count_nonzero(w) for w in weights.values())


def test_a_batch_that_is_named_behind_the_time_is_one_and_a_free_time_is_not(tmp_path: Path) -> None:
    """Recurrent cells of torch are exported so."""
    features, hidden = 5, 3
    weights = {"w": sparse((1, 3 * hidden, features)), "r": sparse((1, 3 * hidden, hidden))}
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=hidden)]
    fixed = count(tmp_path, nodes, {"x": [7, "batch", features]}, ["y"], weights)
    assert (fixed.macs, fixed.unknown) == (7 * 3 * hidden * (features + hidden), ())
    free = count(tmp_path, nodes, {"x": ["time", "batch", features]}, ["y"], weights)
    assert free.macs == 0
    assert "GRU (shape of an operand known at run time only)" in free.unknown


def test_an_lstm_that_is_quantized_at_run_time_counts_as_the_float_one(tmp_path: Path) -> None:
    """Its int8 weights lie transposed, and have a zero point for each gate and hidden value."""
    steps, features, hidden = 7, 5, 3
    stored = {
        "w": np.ones((2, features, 4 * hidden), np.int8),
        "r": np.ones((2, hidden, 4 * hidden), np.int8),
        "s": np.ones((2, 4 * hidden), np.float32),
        "z": np.zeros((2, 4 * hidden), np.int8),
        "v": np.ones((hidden, 6), np.float32),
    }
    stored["w"][:, 0] = 0
    given = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    nodes = [
        helper.make_node(
            "DynamicQuantizeLSTM",
            given,
            ["", "h"],
            domain="com.microsoft",
            hidden_size=hidden,
            direction="bidirectional",
        ),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    cost = count(tmp_path, nodes, {"x": [steps, 1, features]}, ["y"], stored)
    per_step = 2 * 4 * hidden * (features + hidden)
    assert cost.macs == steps * per_step + 2 * hidden * 6
    assert cost.nonzero_macs == cost.macs - steps * 2 * 4 * hidden
    assert not cost.unknown


def test_macs_that_leave_out_an_operator_are_no_figure_of_the_json(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mystery", ["x"], ["y"], domain="com.microsoft")]
    shown = cost_json(count(tmp_path, nodes, {"x": ["n", 8]}, ["y"], {}))
    assert (shown["macs"], shown["nonzero_macs"], shown["flops"]) == (None, None, None)
    assert "com.microsoft.Mystery" in shown["unknown"]


def test_four_bit_weights_occupy_half_a_byte_and_count_once(tmp_path: Path) -> None:
    values = np.array([[0, 1, -8, 7], [0, 0, 3, -1]])
    constants = {
        "w": helper.make_tensor("w", TensorProto.INT4, values.shape, values.flatten()),
        "s": np.float32(0.1),
    }
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["f"]), helper.make_node("MatMul", ["x", "f"], ["y"])]
    cost = count(tmp_path, nodes, {"x": ["n", 2]}, ["y"], constants)
    assert (cost.params, cost.nonzero_params, cost.macs, cost.nonzero_macs) == (8, 5, 8, 5)
    assert cost.weight_bytes == 4 + 4
    assert [layer.operator for layer in cost.layers] == ["MatMul"]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("explicit", [False, True])
def test_packed_weights_are_unpacked_before_their_zeros_are_counted(tmp_path: Path, bits: int, explicit: bool) -> None:
    """MatMulNBits: `8 // bits` values a byte, low bits first; zero points packed alike, one a block, else half the range."""
    n, k, block = 3, 32, 16
    random = np.random.default_rng(bits)
    values = random.integers(0, 2**bits, (n, k))
    points = random.integers(0, 2**bits, (n, k // block)) if explicit else np.full((n, 2), 2 ** (bits - 1))
    per_byte = 8 // bits

    def pack(rows: np.ndarray) -> np.ndarray:
        padded = np.zeros((rows.shape[0], -(-rows.shape[1] // per_byte) * per_byte), np.int64)
        padded[:, : rows.shape[1]] = rows
        parts = padded.reshape(rows.shape[0], -1, per_byte)
        return sum(parts[..., i] << (i * bits) for i in range(per_byte)).astype(np.uint8)

    constants = {"fc.weight_Q4": pack(values).reshape(n, k // block, -1), "s": np.ones((n * 2,), np.float32)}
    inputs = ["x", "fc.weight_Q4", "s"]
    if explicit:
        constants["z"] = pack(points).flatten()
        inputs.append("z")
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block)
    cost = count(tmp_path, [node], {"x": ["n", 4, k]}, ["y"], constants)
    nonzero = sum(values[i, j] != points[i, j // block] for i, j in product(range(n), range(k)))
    assert (cost.params, cost.nonzero_params) == (n * k, nonzero)
    assert (cost.macs, cost.nonzero_macs) == (4 * n * k, 4 * nonzero)
    assert cost.weight_bytes == sum(item.nbytes for item in constants.values())
    assert cost.layers[0].name == "fc"
    assert cost.layers[0].output_shape == (1, 4, n)


def test_a_quantize_dequantize_pair_holds_the_quantized_tensor_only(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": sparse((100, 10))}
    cost = count(tmp_path, nodes, {"x": ["n", 100]}, ["y"], constants)
    assert [layer.activation_bytes for layer in cost.layers] == [100, 0, 0, 40]
    assert cost.peak_activation_bytes == 500


@LAWS
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 50)), min_size=1, max_size=6))
def test_the_peak_is_the_largest_sum_of_live_tensors(links: list[tuple[int, int, int]]) -> None:
    """Against a loop that asks at every step which tensors are still needed."""
    names = ["x", *(f"t{i}" for i in range(len(links)))]
    reads = [tuple({names[min(pick, i)] for pick in link[:2]}) for i, link in enumerate(links)]
    sizes = {"x": 7, **{f"t{i}": link[2] for i, link in enumerate(links)}}
    steps = [
        Step(name="", operator="", work=Work(), stored={}, reads=reads[i], writes=(f"t{i}",)) for i in range(len(links))
    ]
    last = names[-1]
    highest = 0
    for now in range(len(links)):
        written = {"x", *(f"t{i}" for i in range(now + 1))}
        needed = {name for later in range(now, len(links)) for name in reads[later]} | {last, f"t{now}"}
        if now == 0:
            needed.add("x")
        highest = max(highest, sum(sizes[name] for name in written & needed))
    assert peak(steps, Flow(sizes=sizes, alias={}, inputs=("x",), outputs=(last,))) == highest


def test_the_json_of_a_cost_has_every_figure_and_its_layers_add_up(onnx_cases: Path) -> None:
    shown = cost_json(cost_of(onnx_cases / "version-slim-320_simplified.onnx"))
    assert {"params", "nonzero_params", "macs", "nonzero_macs", "flops", "file_bytes", "weight_bytes"} <= set(shown)
    assert {"activation_bytes", "peak_activation_bytes", "layers", "unknown"} <= set(shown)
    for figure in ("params", "nonzero_params", "macs", "nonzero_macs", "weight_bytes", "activation_bytes"):
        assert shown[figure] == sum(layer[figure] for layer in shown["layers"])
    assert shown["flops"] == 2 * shown["macs"]
