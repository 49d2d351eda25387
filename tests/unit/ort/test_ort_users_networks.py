"""Networks as users bring them: bodies, LSTMs, odd names and types, old opsets, masks. None comes out silently wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as native
from ort_nets import compressed, opened, save

from backends.onnx_tools import operators
from backends.onnx_tools.graph import at_least_opset
from backends.onnx_tools.names import free_names
from backends.onnx_tools.precision import split_by_precision
from backends.onnx_tools.unquantizable import quantize_what_can_be
from backends.onnx_tools.verify import check_written
from backends.ort.compile import OrtBackend
from bench.device.stored import write_npz
from bench.errors import CellFailed, InvalidInput, Unsupported
from bench.formats.npz_file import read_npz
from bench.types import Artifact, Conditions, QuantSpec

STATIC, DYNAMIC, HALF = (QuantSpec(kind=kind) for kind in ("static", "dynamic", "float16"))
W8, W16 = QuantSpec(kind="weight_only"), QuantSpec(kind="weight_only", weight_bits=16)
DRAW = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def begin_the_draw_anew() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    DRAW.bit_generator.state = np.random.default_rng(0).bit_generator.state


def weights(*shape: int, scale: float = 0.2) -> np.ndarray:
    return (DRAW.standard_normal(shape) * scale).astype(np.float32)


def compile_with(path: Path, out: Path, spec: QuantSpec | None, rows: int = 16) -> Artifact:
    """Compiled at batch 1, calibrated on seeded rows of every input."""
    out.mkdir()
    values = onnx.load(str(path)).graph.input
    shapes = {item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim][1:] for item in values}
    arrays = {
        name: np.random.default_rng(1).standard_normal((rows, *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    data = out / "data.npz"
    write_npz(data, arrays)
    source = compressed(path, spec, data) if spec and spec.kind == "static" else compressed(path, spec)
    return OrtBackend().compile(source, Conditions(), {}, out)


def error_of(path: Path, tmp_path: Path, spec: QuantSpec, rows: int = 16) -> float:
    """Largest error over 4 inputs, relative to the largest output.

    Both files are computed with exact sums, because int8 kernels of CPUs without VNNI saturate: a static file runs
    unoptimized, where its products are floats, a dynamic one in ONNX's reference.
    """
    done = compile_with(path, tmp_path / "q", spec, rows)
    plain = opened(compile_with(path, tmp_path / "f", None), graph_optimization="off")
    (item,) = plain.inputs()
    feeds = [{item.name: DRAW.standard_normal(item.shape).astype(np.float32)} for _ in range(4)]
    wanted = [plain.run(feed)[0] for feed in feeds]
    if spec.kind == "dynamic":
        found = [ReferenceEvaluator(str(done.path)).run(None, feed)[0] for feed in feeds]
    else:
        found = [opened(done, graph_optimization="off").run(feed)[0] for feed in feeds]
    return float(np.abs(np.subtract(wanted, found)).max() / np.abs(wanted).max())


def looped(path: Path) -> Path:
    """A MatMul outside, one in a Loop's body that runs 5 times, and one whose weight the body captures."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "inner.weight"], ["t"], "body/inner"),
            helper.make_node("MatMul", ["t", "captured.weight"], ["u"], "body/captured"),
            helper.make_node("Tanh", ["u"], ["next"], "body/tanh"),
            helper.make_node("Identity", ["go"], ["on"], "body/go"),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights(32, 32), "inner.weight")],
    )
    nodes = [
        helper.make_node("MatMul", ["input", "outer.weight"], ["first"], "outer"),
        helper.make_node("Loop", ["trips", "begin", "first"], ["output"], "loop", body=body),
    ]
    tensors = {
        "outer.weight": weights(32, 32),
        "captured.weight": weights(32, 32),
        "trips": np.array(5),
        "begin": np.array(True),
    }
    return save(path, nodes, tensors, ["N", 32], ["N", 32], opset=17)


def tied(path: Path) -> Path:
    """One square weight that two Gemms transpose, a MatMul multiplies by, and a Gather reads a row of."""
    nodes = [
        helper.make_node("Gemm", ["input", "w"], ["a"], "first", transB=1),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w"], ["b"], "second", transB=1),
        helper.make_node("MatMul", ["b", "w"], ["c"], "third"),
        helper.make_node("Gather", ["w", "row"], ["g"], "table"),
        helper.make_node("Add", ["c", "g"], ["output"], "sum"),
    ]
    return save(path, nodes, {"w": weights(32, 32), "row": np.array([3])}, ["N", 32], ["N", 32], opset=17)


def batched(path: Path) -> Path:
    """A MatMul whose weight has a matrix for each head, then a plain one: int8 kernels take no scale per column of the first."""
    nodes = [
        helper.make_node("Reshape", ["input", "heads"], ["a"], "split"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "batched"),
        helper.make_node("MatMul", ["b", "v"], ["output"], "plain"),
    ]
    tensors = {"heads": np.array([-1, 4, 1, 8]), "w": weights(4, 8, 32), "v": weights(32, 32)}
    return save(path, nodes, tensors, ["N", 32], ["N", 4, 1, 32], opset=17)


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8], ids=lambda spec: spec.kind)
def test_a_weight_used_in_several_ways_is_quantized_right_in_each(spec, tmp_path):
    assert error_of(tied(tmp_path / "net.onnx"), tmp_path, spec, rows=256) < 0.05


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC], ids=lambda spec: spec.kind)
def test_a_gemm_is_quantized_whatever_the_form_of_its_bias(spec, tmp_path):
    """A matrix of one row, a number and a vector of one number, one of them scaled and transposed."""
    nodes = [
        helper.make_node("Gemm", ["input", "w", "row"], ["a"], "first", transB=1),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w", "number"], ["b"], "second"),
        helper.make_node("Gemm", ["b", "v", "one"], ["output"], "third", transB=1),
    ]
    stored = {
        "w": weights(32, 32),
        "v": weights(4, 32),
        "row": weights(1, 32),
        "number": np.array(0.3),
        "one": weights(1),
    }
    path = save(tmp_path / "net.onnx", nodes, stored, ["N", 32], ["N", 4], opset=17)
    assert error_of(path, tmp_path, spec, rows=256) < 0.05
    assert compile_with(path, tmp_path / "again", spec).precision.stayed_float == ()


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC], ids=lambda spec: spec.kind)
def test_a_layer_whose_int8_kernel_does_not_run_stays_float_and_is_named(spec, tmp_path):
    artifact = compile_with(batched(tmp_path / "net.onnx"), tmp_path / "out", spec)
    assert artifact.precision.stayed_float == ("batched",)


@pytest.mark.parametrize(("spec", "output"), [(STATIC, "input"), (HALF, "input"), (HALF, "w")])
def test_an_output_that_is_an_input_or_a_weight_is_refused_with_its_name(spec, output, tmp_path):
    path = tied(tmp_path / "net.onnx")
    model = onnx.load(str(path))
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    with pytest.raises(Unsupported, match=f"output '{output}' is an input or a weight.*export the network without"):
        compile_with(path, tmp_path / "out", spec)


def test_a_weight_on_the_left_is_refused_without_a_remedy_that_fails_too(tmp_path):
    nodes = [helper.make_node("MatMul", ["w", "input"], ["output"], "left")]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(8, 8)}, ["N", 8, 4], ["N", 8, 4], opset=17)
    with pytest.raises(Unsupported, match="left would stay float32: it can be measured as it is"):
        compile_with(path, tmp_path / "out", DYNAMIC)


def recurrent(path: Path, kind: str = "LSTM", *, head: bool = True) -> Path:
    """A recurrent layer over (time, N, 16) and a linear head."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    outputs = ["", "h", ""] if kind == "LSTM" else ["", "h"]
    nodes = [
        helper.make_node("Transpose", ["input"], ["t"], "turn", perm=[1, 0, 2]),
        helper.make_node(kind, ["t", "w", "r", "b"], outputs, "cell", hidden_size=32),
        helper.make_node("Squeeze", ["h", "axis"], ["s"], "squeeze"),
        helper.make_node("MatMul", ["s", "head.weight"], ["output"], "head")
        if head
        else helper.make_node("Relu", ["s"], ["output"], "out"),
    ]
    tensors = {
        "w": weights(1, gates * 32, 16),
        "r": weights(1, gates * 32, 32),
        "b": weights(1, 2 * gates * 32),
        "axis": np.array([0]),
        **({"head.weight": weights(32, 4)} if head else {}),
    }
    return save(path, nodes, tensors, ["N", 6, 16], ["N", 4 if head else 32], opset=17)


def test_bodies_are_quantized_where_the_scheme_can_and_named_where_not(tmp_path):
    path = looped(tmp_path / "net.onnx")
    static = compile_with(path, tmp_path / "static", STATIC).precision
    assert static.stayed_float == ("body/inner", "body/captured")
    assert static.stayed_share == pytest.approx(2 / 3)
    for spec in (DYNAMIC, W8, W16):
        artifact = compile_with(path, tmp_path / f"{spec.kind}{spec.weight_bits}", spec)
        if spec.kind == "weight_only":
            assert artifact.precision.stayed_float == ()
            assert artifact.path.stat().st_size < path.stat().st_size / (16 / spec.weight_bits) * 0.4 + 3000
        assert "body/inner" not in artifact.precision.stayed_float


def test_a_body_that_stayed_float_makes_the_session_distrust_the_file(tmp_path):
    facts = opened(compile_with(looped(tmp_path / "net.onnx"), tmp_path / "out", STATIC)).facts()
    assert facts.fallbacks == (
        "stayed float32 although keep_float does not name them: body/inner, body/captured (67% of the weights)",
    )
    assert facts.execution.multiplying == {"float32": 2, "int8": 1}, "a node that runs five times counts once"


@pytest.mark.parametrize("name", ["inner", "body/inner"])
@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, W16], ids=lambda spec: f"{spec.kind}{spec.weight_bits}")
def test_keep_float_reaches_into_bodies(spec, name, tmp_path):
    kept = QuantSpec(kind=spec.kind, weight_bits=spec.weight_bits, keep_float=(name,))
    artifact = compile_with(looped(tmp_path / "net.onnx"), tmp_path / "out", kept)
    assert artifact.precision.keep_float == ("body/inner",)
    assert "body/inner" not in artifact.precision.stayed_float


def test_float16_refuses_to_keep_a_layer_of_a_body_float(tmp_path):
    """ONNX Runtime's conversion would put the cast outside the body."""
    with pytest.raises(Unsupported, match="inside a Loop, If or Scan: body/inner"):
        spec = QuantSpec(kind="float16", keep_float=("inner",))
        compile_with(looped(tmp_path / "net.onnx"), tmp_path / "out", spec)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_a_recurrent_layer_that_stays_float_is_named_with_its_share(kind, tmp_path):
    precision = compile_with(recurrent(tmp_path / "net.onnx", kind), tmp_path / "out", STATIC).precision
    assert precision.stayed_float == ("cell",)
    assert precision.stayed_share > 0.9


def test_dynamic_int8_of_an_lstm_is_onnx_runtimes_own_kernel(tmp_path):
    artifact = compile_with(recurrent(tmp_path / "net.onnx", head=False), tmp_path / "out", DYNAMIC)
    facts = opened(artifact).facts()
    assert facts.fallbacks == ()
    assert facts.execution.kernels["DynamicQuantizeLSTM"] == 1
    assert artifact.path.stat().st_size < 0.4 * (tmp_path / "net.onnx").stat().st_size


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("spec", [W8, W16], ids=["int8", "float16"])
def test_the_weights_of_recurrent_layers_are_packed_too(kind, spec, tmp_path):
    path = recurrent(tmp_path / "net.onnx", kind)
    assert error_of(path, tmp_path, spec) < 0.02
    assert (tmp_path / "q" / "model.onnx").stat().st_size < (0.4 if spec is W8 else 0.6) * path.stat().st_size + 1000


def branched(path: Path) -> Path:
    """Its rate chooses a branch, as in speech detectors; the branch of other rates cannot take these sizes."""
    value = helper.make_tensor_value_info

    def branch(name: str, width: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Reshape", ["input", f"{name}.shape"], [f"{name}.x"], f"{name}/reshape"),
            helper.make_node("MatMul", [f"{name}.x", f"{name}.weight"], [f"{name}.y"], f"{name}/fc"),
        ]
        stored = [
            numpy_helper.from_array(np.array([1, width]), f"{name}.shape"),
            numpy_helper.from_array(weights(width, 4), f"{name}.weight"),
        ]
        return helper.make_graph(nodes, name, [], [value(f"{name}.y", TensorProto.FLOAT, None)], stored)

    nodes = [
        helper.make_node("Equal", ["sr", "rate"], ["same"], "equal"),
        helper.make_node("If", ["same"], ["output"], "if", then_branch=branch("a", 64), else_branch=branch("b", 32)),
    ]
    model = onnx.load(str(save(path, nodes, {"rate": np.array(16000)}, ["N", 64], ["N", 4], opset=17)))
    model.graph.input.append(value("sr", TensorProto.INT64, []))
    onnx.save(model, str(path))
    return path


def test_what_ran_is_read_with_inputs_that_the_network_takes(tmp_path, capfd):
    session = opened(compile_with(branched(tmp_path / "net.onnx"), tmp_path / "out", DYNAMIC))
    session.run({"input": weights(1, 64), "sr": np.array(16000)})
    facts = session.facts()
    assert facts.execution.multiplying == {"int8": 1}
    assert capfd.readouterr().err == ""


def test_a_convolution_of_a_branch_is_quantized_though_its_weight_lies_outside(tmp_path):
    def branch(name: str) -> onnx.GraphProto:
        conv = helper.make_node("Conv", ["input", f"{name}.weight"], [f"{name}.y"], f"{name}/conv")
        return helper.make_graph(
            [conv], name, [], [helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)]
        )

    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], "mean", keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["up"], "greater"),
        helper.make_node("If", ["up"], ["output"], "if", then_branch=branch("a"), else_branch=branch("b")),
    ]
    tensors = {"zero": np.float32(0), "a.weight": weights(8, 8, 3), "b.weight": weights(8, 8, 3)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 8, 16], ["N", 8, 14], opset=17)
    artifact = compile_with(path, tmp_path / "out", DYNAMIC)
    assert artifact.precision.stayed_float == ()
    assert opened(artifact).facts().execution.kernels["ConvInteger"] == 1


def test_nothing_to_quantize_names_what_would_stay_float(tmp_path):
    with pytest.raises(Unsupported, match="cell would stay float32: try dynamic_int8"):
        compile_with(recurrent(tmp_path / "net.onnx", head=False), tmp_path / "out", STATIC)


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, W16, HALF], ids=lambda spec: f"{spec.kind}{spec.weight_bits}")
@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_a_network_in_another_float_type_is_refused_by_its_name(kind, spec, tmp_path):
    nodes = [helper.make_node("MatMul", ["input", "fc.weight"], ["output"], "fc")]
    model = onnx.load(str(save(tmp_path / "net.onnx", nodes, {"fc.weight": weights(8, 4)}, ["N", 8], ["N", 4])))
    stored = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights(8, 4).astype(kind), "fc.weight"))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = stored
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(Unsupported, match=f"computes in {kind}, and quantizers take float32: export it in float32"):
        compile_with(tmp_path / "net.onnx", tmp_path / "out", spec)


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8], ids=lambda spec: spec.kind)
def test_a_node_in_float64_stays_as_it_is_and_the_rest_is_quantized(spec, tmp_path):
    nodes = [
        helper.make_node("MatMul", ["input", "fc1.weight"], ["a"], "fc1"),
        helper.make_node("Cast", ["a"], ["wide"], "cast", to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "fc2.weight"], ["b"], "fc2"),
        helper.make_node("Cast", ["b"], ["output"], "back", to=TensorProto.FLOAT),
    ]
    model = onnx.load(str(save(tmp_path / "net.onnx", nodes, {"fc1.weight": weights(16, 16)}, ["N", 16], ["N", 4])))
    model.graph.initializer.append(numpy_helper.from_array(weights(16, 4).astype(np.float64), "fc2.weight"))
    onnx.save(model, str(tmp_path / "net.onnx"))
    artifact = compile_with(tmp_path / "net.onnx", tmp_path / "out", spec)
    assert artifact.precision.stayed_float == ("fc2",)
    assert (
        opened(artifact).facts().fallbacks[0].startswith("stayed float32 although keep_float does not name them: fc2")
    )


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, HALF], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("first", [STATIC, DYNAMIC, W8], ids=lambda spec: f"{spec.kind}-first")
def test_a_quantized_file_is_not_quantized_again(first, spec, tmp_path):
    nodes = [helper.make_node("MatMul", ["input", "fc.weight"], ["output"], "fc")]
    path = save(tmp_path / "net.onnx", nodes, {"fc.weight": weights(64, 32)}, ["N", 64], ["N", 32])
    once = compile_with(path, tmp_path / "once", first).path
    with pytest.raises(Unsupported, match=r"quantized already \(\d+ "):
        compile_with(once, tmp_path / "twice", spec)


def decoder(path: Path, group: int) -> Path:
    nodes = [
        helper.make_node("Conv", ["input", "enc.weight", "enc.bias"], ["a"], "enc", pads=[1] * 4),
        helper.make_node("ConvTranspose", ["a", "up.weight", "up.bias"], ["b"], "up", strides=[2, 2], group=group),
        helper.make_node("Conv", ["b", "out.weight"], ["output"], "out"),
    ]
    tensors = {
        "enc.weight": weights(8, 3, 3, 3),
        "enc.bias": weights(8),
        "up.weight": weights(8, 16 // group, 2, 2),
        "up.bias": weights(16),
        "out.weight": weights(3, 16, 1, 1),
    }
    return save(path, nodes, tensors, ["N", 3, 8, 8], ["N", 3, 16, 16], opset=17)


def test_one_layer_that_cannot_be_quantized_stays_float_and_does_not_lose_the_others(tmp_path):
    artifact = compile_with(decoder(tmp_path / "net.onnx", 2), tmp_path / "out", STATIC)
    assert artifact.precision.stayed_float == ("up",)
    assert opened(artifact).facts().execution.kernels["QLinearConv"] == 2
    assert compile_with(decoder(tmp_path / "one.onnx", 1), tmp_path / "one", STATIC).precision.stayed_float == ()


def test_faulty_nodes_are_found_one_by_one_and_an_error_of_all_is_passed_on():
    nodes = [f"n{index}" for index in range(40)]
    tried: list[set[str]] = []

    def quantize(left, faulty=frozenset({"n3", "n38"})):
        tried.append(set(left))
        if faulty - set(left):
            raise ValueError("axis")

    quantize_what_can_be(quantize, nodes, ["n0"])
    assert tried[-1] == {"n0", "n3", "n38"}
    assert len(tried) < 30

    def broken(_left):
        raise KeyError("no")

    with pytest.raises(Unsupported, match="cannot quantize this network"):
        quantize_what_can_be(broken, nodes, [])


ADDED = (
    "b0",
    "b_quantized",
    "hid_scale",
    "input_QuantizeLinear_Output",
    "w1_zero_point",
    "hid_DequantizeLinear_Output",
)


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, HALF], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("name", [*ADDED, "w1_packed", "graph_input_cast_0", "hid_output_quantized", "w1_float16"])
def test_a_tensor_called_as_a_quantizer_would_call_its_own_keeps_its_value(name, spec, tmp_path):
    """The residual of the reported network: two layers share a bias, and a tensor has the name of a copy."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b"], ["hid"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["hid"], ["r"], "r1"),
        helper.make_node("Conv", ["r", "w2", "b"], [name], "c2", pads=[1] * 4),
        helper.make_node("Add", ["r", name], ["s"], "residual"),
        helper.make_node("GlobalAveragePool", ["s"], ["output"], "pool"),
    ]
    tensors = {"w1": weights(8, 3, 3, 3), "w2": weights(8, 8, 3, 3), "b": weights(8, scale=1)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 3, 8, 8], ["N", 8, 1, 1], opset=17)
    assert error_of(path, tmp_path, spec) < 0.05


def test_an_output_called_as_a_copy_stays_and_the_bias_is_renamed(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["input", "w1", "b"], ["a"], "fc1"),
        helper.make_node("Gemm", ["a", "w2", "b"], ["b0"], "fc2"),
    ]
    path = save(
        tmp_path / "net.onnx", nodes, {"w1": weights(8, 8), "w2": weights(8, 8), "b": weights(8)}, ["N", 8], ["N", 8]
    )
    model = onnx.load(str(path))
    model.graph.output[0].name = "b0"
    free_names(model)
    assert [value.name for value in model.graph.output] == ["b0"]
    assert sorted(item.name for item in model.graph.initializer) == ["b/own", "w1", "w2"]
    assert [node.input[2] for node in model.graph.node] == ["b/own", "b/own"]


@pytest.mark.parametrize("name", ["file", "allow_pickle", "../up", "a/b:0", "wéight", "args"])
def test_an_input_may_have_any_name(name, tmp_path):
    arrays = {name: np.arange(6, dtype=np.float32).reshape(2, 3), "other": np.ones(2, np.int64)}
    write_npz(tmp_path / "x.npz", arrays)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as loaded:
        assert {key: loaded[key].tolist() for key in loaded.files} == {key: a.tolist() for key, a in arrays.items()}
    assert read_npz(tmp_path / "x.npz", ["other"])["other"].tolist() == [1, 1]
    nodes = [helper.make_node("MatMul", [name, "fc.weight"], ["output"], "fc")]
    path = save(tmp_path / "net.onnx", nodes, {"fc.weight": weights(8, 4)}, ["N", 8], ["N", 4])
    model = onnx.load(str(path))
    model.graph.input[0].name = name
    onnx.save(model, str(path))
    assert [spec.name for spec in opened(compile_with(path, tmp_path / "out", STATIC)).inputs()] == [name]


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, W16, HALF], ids=lambda spec: f"{spec.kind}{spec.weight_bits}")
def test_an_old_opset_is_raised_before_anything_else_in_every_scheme(spec, tmp_path):
    """Upsample and Clip with attributes, as of opset 9."""
    nodes = [
        helper.make_node("Conv", ["input", "c1.weight"], ["a"], "c1", pads=[1] * 4),
        helper.make_node("Clip", ["a"], ["b"], "clip", min=0.0, max=6.0),
        helper.make_node("Upsample", ["b", "scales"], ["c"], "up", mode="nearest"),
        helper.make_node("Conv", ["c", "c2.weight"], ["output"], "c2", pads=[1] * 4),
    ]
    tensors = {
        "c1.weight": weights(8, 3, 3, 3),
        "c2.weight": weights(4, 8, 3, 3),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 3, 4, 4], ["N", 4, 8, 8], opset=9)
    assert error_of(path, tmp_path, spec) < 0.05
    facts = compile_with(path, tmp_path / "again", spec).facts
    raised = {"static": "9 to 13", "dynamic": "9 to 13", "weight_only": "9 to 21"}.get(spec.kind)
    assert facts.get("opset_raised") == (raised if spec is not W16 else "9 to 13")


def test_an_operator_without_a_conversion_is_named_with_its_opset(tmp_path):
    nodes = [helper.make_node("Resize", ["input", "scales"], ["output"], "r", mode="nearest")]
    path = save(tmp_path / "net.onnx", nodes, {"scales": np.array([1, 2], np.float32)}, ["N", 4], ["N", 8], opset=9)
    with pytest.raises(Unsupported, match="opset 9, this step needs 13, and onnx cannot convert its operator Resize"):
        at_least_opset(onnx.load(str(path)), 13)


def attention(path: Path, lowest: float, kind: str = "Add") -> Path:
    """Self-attention over 8 positions whose last two are masked by `lowest`."""
    mask = np.where(np.arange(8) < 6, 0 if kind == "Add" else 1, lowest if kind == "Add" else 0).astype(np.float32)
    scores = (
        helper.make_node("Add", ["s0", "mask"], ["s1"], "masked")
        if kind == "Add"
        else helper.make_node("Where", ["keep", "s0", "lowest"], ["s1"], "masked")
    )
    nodes = [
        *(helper.make_node("MatMul", ["input", f"{name}.weight"], [name], name) for name in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s0"], "scores"),
        scores,
        helper.make_node("Softmax", ["s1"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["a"], "values"),
        helper.make_node("MatMul", ["a", "o.weight"], ["output"], "o"),
    ]
    tensors = {f"{name}.weight": weights(16, 16) for name in "qkvo"}
    if kind == "Add":
        tensors["mask"] = mask[None]
    else:
        tensors |= {"keep": mask[None].astype(bool), "lowest": np.array(lowest, np.float32)}
    return save(path, nodes, tensors, ["N", 8, 16], ["N", 8, 16], opset=17)


@pytest.mark.parametrize("kind", ["Add", "Where"])
@pytest.mark.parametrize("lowest", [np.finfo(np.float32).min, -np.inf, -1e9, -1e4])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_a_mask_does_not_swallow_the_range_of_the_scores(method, lowest, kind, tmp_path):
    spec = QuantSpec(kind="static", calibration=method)
    assert error_of(attention(tmp_path / "net.onnx", float(lowest), kind), tmp_path, spec) < 0.1
    precision = compile_with(tmp_path / "net.onnx", tmp_path / "again", spec).precision
    assert precision.stayed_float == (), "every product is still quantized"


def test_a_written_file_that_is_invalid_or_does_not_run_names_our_step(tmp_path):
    nodes = [helper.make_node("MatMul", ["input", "fc.weight"], ["output"], "fc")]
    path = save(tmp_path / "net.onnx", nodes, {"fc.weight": weights(8, 4)}, [1, 8], [1, 4])
    good = onnx.load(str(path))
    check_written(path, good, "int8")
    for name, change in {
        "twice": lambda model: model.graph.node.append(helper.make_node("Relu", ["input"], ["output"])),
        "types": lambda model: model.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(weights(8, 4).astype(np.float64), "fc.weight")
        ),
    }.items():
        model = onnx.load(str(path))
        change(model)
        bad = tmp_path / f"{name}.onnx"
        onnx.save(model, str(bad))
        with pytest.raises(CellFailed, match="int8 wrote a file that does not work"):
            check_written(bad, good, "int8")
        check_written(bad, model, "int8")


def test_every_operator_of_onnx_runtime_that_says_it_multiplies_is_in_a_list():
    words = ("MatMul", "Gemm", "Conv", "Attention", "MoE", "LSTM", "GRU", "RNN", "Einsum", "SVM", "Linear")
    known = operators.MULTIPLYING | operators.INTEGER | operators.PACKED
    others = {"DequantizeLinear", "GRUUnit", "GemmaRotaryEmbedding", "LinearAttentionGate"}
    others |= {"PackedSparseAttentionIndexer", "SparseAttentionIndexer"}
    found = {
        schema.name
        for schema in native.get_all_operator_schema()
        if any(word in schema.name for word in words) and "Grad" not in schema.name
    }
    left = {
        name
        for name in found - known - others
        if not name.startswith("QLinear") and not name.endswith(("_TRT", "QuantizeLinear"))
    }
    assert left == set()


@pytest.mark.parametrize(
    "kind", ["Einsum", "Attention", "ConvTranspose", "LinearRegressor", "SVMRegressor", "MultiHeadAttention"]
)
def test_what_multiplies_is_judged_whatever_its_kind(kind):
    attributes = {"coefficients": [1.0, 2.0]} if kind in operators.LINEAR_MODELS else {}
    made = helper.make_graph(
        [helper.make_node(kind, ["input", "w"], ["output"], "node", **attributes)],
        "g",
        [],
        [],
        [] if attributes else [numpy_helper.from_array(weights(3, 3), "w")],
    )
    split = split_by_precision(made)
    assert split.left == ("node",)
    assert split.weights == {"node": 2 if attributes else 9}


def test_trees_do_not_multiply():
    made = helper.make_graph([helper.make_node("TreeEnsembleClassifier", ["input"], ["output"], "trees")], "g", [], [])
    assert split_by_precision(made).left == ()


def test_the_weights_of_a_shared_layer_count_once():
    stored = numpy_helper.from_array(weights(4, 4), "w")
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "two"),
    ]
    split = split_by_precision(helper.make_graph(nodes, "g", [], [], [stored]))
    assert split.share_of(split.left) == 1
    assert sum(split.weights.values()) == 16


def test_a_layer_that_preparing_takes_away_cannot_be_kept_float(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["c", "folded.weight"], ["k"], "folded"),
        helper.make_node("MatMul", ["input", "fc.weight"], ["a"], "fc"),
        helper.make_node("Add", ["a", "k"], ["output"], "add"),
    ]
    tensors = {"c": weights(1, 8), "folded.weight": weights(8, 4), "fc.weight": weights(8, 4)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 8], ["N", 4])
    with pytest.raises(Unsupported, match="keep_float names layers that ONNX Runtime fuses or folds away: folded"):
        compile_with(path, tmp_path / "out", QuantSpec(kind="static", keep_float=("folded",)))


def test_a_layer_is_known_by_the_module_path_in_its_nodes_name(tmp_path):
    """Torch's older exporter calls the weight of a MatMul onnx::MatMul_12."""
    nodes = [
        helper.make_node("MatMul", ["input", "onnx::MatMul_12"], ["a"], "/encoder/fc1/MatMul"),
        helper.make_node("MatMul", ["a", "onnx::MatMul_13"], ["output"], "/encoder/fc2/MatMul"),
    ]
    tensors = {"onnx::MatMul_12": weights(8, 8), "onnx::MatMul_13": weights(8, 4)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 8], ["N", 4])
    artifact = compile_with(path, tmp_path / "out", QuantSpec(kind="static", keep_float=("encoder.fc1",)))
    assert artifact.precision.keep_float == ("/encoder/fc1/MatMul",)
    with pytest.raises(InvalidInput, match=r"did you mean 'encoder\.fc1'"):
        compile_with(path, tmp_path / "wrong", QuantSpec(kind="static", keep_float=("encoder.fc11",)))


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8], ids=["static", "dynamic", "weights"])
def test_a_function_of_the_file_itself_is_expanded_whatever_opset_the_scheme_needs(spec, tmp_path):
    """Raising the opset of a file drops its functions."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    act = helper.make_function(
        "com.acme", "Act", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["h"], "fc"),
        helper.make_node("Act", ["h"], ["y"], "act", domain="com.acme"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(weights(32, 16), "fc.weight")],
    )
    path = tmp_path / "function.onnx"
    onnx.save(helper.make_model(graph, functions=[act], opset_imports=opsets, ir_version=9), str(path))
    assert error_of(path, tmp_path, spec) < 0.1


@pytest.mark.parametrize(("low", "high"), [(None, 0.3), (0.2, 1.0), (-0.1, 0.6)])
def test_the_limits_of_a_clip_hold_in_int8_too(low, high, tmp_path):
    """The quantizer takes Clips away, and a range that is symmetric or holds 0 does not end where they do."""
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "first"),
        helper.make_node("Clip", ["a", "low" if low is not None else "", "high"], ["c"], "clip"),
        helper.make_node("MatMul", ["c", "v"], ["output"], "second"),
    ]
    limits = {"high": np.float32(high)} | ({"low": np.float32(low)} if low is not None else {})
    path = save(
        tmp_path / "net.onnx", nodes, {"w": weights(32, 32), "v": weights(32, 4), **limits}, ["N", 32], ["N", 4]
    )
    assert error_of(path, tmp_path, STATIC, rows=256) < 0.05


def test_a_clip_at_zero_is_left_to_the_range_of_its_kernel(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "first"),
        helper.make_node("Clip", ["a", "low", "high"], ["c"], "relu6"),
        helper.make_node("MatMul", ["c", "v"], ["output"], "second"),
    ]
    tensors = {"w": weights(32, 32), "v": weights(32, 4), "low": np.float32(0), "high": np.float32(6)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 32], ["N", 4])
    done = onnx.load(str(compile_with(path, tmp_path / "out", STATIC).path))
    assert "Clip" not in {node.op_type for node in done.graph.node}


def test_an_output_that_a_relu_reads_keeps_its_negative_values(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["output"], "first"),
        helper.make_node("Relu", ["output"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["scores"], "second"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(32, 32), "v": weights(32, 4)}, ["N", 32], ["N", 32])
    model = onnx.load(str(path))
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4]))
    onnx.save(model, str(path))
    assert error_of(path, tmp_path, STATIC, rows=256) < 0.05


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC], ids=lambda spec: spec.kind)
def test_the_scales_of_a_gemm_are_quantized_with_its_weight_and_bias(spec, tmp_path):
    """Two Gemms share a bias, and the kernels of ONNX Runtime leave `beta` out."""
    nodes = [
        helper.make_node("Gemm", ["input", "w", "b"], ["a"], "first", alpha=0.5, beta=2.0, transB=1),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "v", "b"], ["c"], "second", beta=0.0),
        helper.make_node("Gemm", ["c", "u", "number"], ["output"], "third", beta=3.0),
    ]
    stored = {name: weights(32, 32) for name in "wvu"} | {"b": weights(32), "number": np.array(0.2)}
    path = save(tmp_path / "net.onnx", nodes, stored, ["N", 32], ["N", 32], opset=17)
    assert error_of(path, tmp_path, spec, rows=256) < 0.06
    assert compile_with(path, tmp_path / "again", spec).precision.stayed_float == ()


@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8], ids=lambda spec: spec.kind)
def test_an_input_left_out_by_an_empty_name_is_no_reason_to_leave_a_layer_float(spec, tmp_path):
    nodes = [
        helper.make_node("Gemm", ["input", "w", ""], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["output"], "second"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(32, 32), "v": weights(32, 4)}, ["N", 32], ["N", 4])
    assert error_of(path, tmp_path, spec, rows=256) < 0.05
    assert compile_with(path, tmp_path / "again", spec).precision.stayed_float == ()


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("spec", [STATIC, DYNAMIC, W8, HALF], ids=lambda spec: spec.kind)
def test_a_sparse_weight_is_quantized_as_a_dense_one(spec, rank, tmp_path):
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "v"], ["output"], "second"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"v": weights(32, 4)}, ["N", 32], ["N", 4])
    model, places = onnx.load(str(path)), np.arange(0, 32 * 32, 3)
    indices = places if rank == 1 else np.stack(np.unravel_index(places, (32, 32)), axis=1)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(weights(len(places)), "w"), numpy_helper.from_array(indices, "w/places"), [32, 32]
        )
    )
    onnx.save(model, str(path))
    assert error_of(path, tmp_path, spec, rows=256) < 0.05


def test_float16_casts_a_value_once_for_two_operators_that_stay_float(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "first"),
        helper.make_node("Max", ["a", "low"], ["m"], "max"),
        helper.make_node("Min", ["a", "high"], ["n"], "min"),
        helper.make_node("Add", ["m", "n"], ["output"], "sum"),
    ]
    tensors = {"w": weights(32, 32), "low": np.float32(0), "high": np.float32(1)}
    path = save(tmp_path / "net.onnx", nodes, tensors, ["N", 32], ["N", 32])
    assert error_of(path, tmp_path, HALF) < 0.01


def test_float16_converts_numbers_that_are_no_tensors_and_those_in_functions(tmp_path):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    half = [
        helper.make_node("Constant", [], ["k"], value_float=0.5),
        helper.make_node("Mul", ["a", "k"], ["b"]),
    ]
    function = helper.make_function("com.acme", "Half", ["a"], ["b"], half, opsets[:1])
    nodes = [
        helper.make_node("Constant", [], ["shift"], value_floats=[0.1] * 32),
        helper.make_node("Add", ["input", "shift"], ["s"], "add"),
        helper.make_node("MatMul", ["s", "w"], ["h"], "fc"),
        helper.make_node("Half", ["h"], ["output"], "half", domain="com.acme"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(32, 32)}, ["N", 32], ["N", 32], domains=("com.acme",))
    model = onnx.load(str(path))
    model.functions.append(function)
    onnx.save(model, str(path))
    assert error_of(path, tmp_path, HALF) < 0.01


def test_branches_whose_weights_have_one_name_become_float16(tmp_path):
    def branch(end: str, operator: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["input", "w"], [f"{end}_a"], f"{end}_product"),
            helper.make_node(operator, [f"{end}_a"], [f"{end}_out"], f"{end}_act"),
        ]
        out = helper.make_tensor_value_info(f"{end}_out", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, end, [], [out], [numpy_helper.from_array(weights(32, 32), "w")])

    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], "mean", keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"], "greater"),
        helper.make_node(
            "If", ["positive"], ["output"], "if", then_branch=branch("yes", "Relu"), else_branch=branch("no", "Tanh")
        ),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"zero": np.float32(0)}, ["N", 32], ["N", 32], opset=17)
    assert error_of(path, tmp_path, HALF) < 0.01


def test_a_network_of_integers_has_nothing_to_quantize(tmp_path):
    nodes = [helper.make_node("MatMul", ["input", "w"], ["output"], "product")]
    path = save(tmp_path / "net.onnx", nodes, {"w": np.ones((8, 4), np.int32)}, ["N", 8], ["N", 4])
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, str(path))
    data = tmp_path / "data.npz"
    write_npz(data, {"input": np.ones((4, 8), np.int32)})
    with pytest.raises(Unsupported, match="found nothing to quantize in this network; product would stay float32"):
        OrtBackend().compile(compressed(path, STATIC, data), Conditions(), {}, tmp_path)
