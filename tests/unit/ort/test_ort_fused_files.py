"""Files that an optimizer of ONNX Runtime wrote, and files that list or name things twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from ort_nets import compressed, save

from backends.onnx_tools.plain import name_outputs_apart
from backends.onnx_tools.precision import split_by_precision
from backends.ort.compile import OrtBackend
from bench.device.stored import write_npz
from bench.errors import InvalidInput, Unsupported
from bench.types import Artifact, Conditions, QuantSpec

STATIC, DYNAMIC, HALF, W8 = (QuantSpec(kind=kind) for kind in ("static", "dynamic", "float16", "weight_only"))
N = helper.make_node
DRAW = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return (DRAW.standard_normal(shape) * 0.3).astype(np.float32)


def compile_with(path: Path, out: Path, spec: QuantSpec, **arrays: np.ndarray) -> Artifact:
    out.mkdir()
    write_npz(out / "data.npz", arrays)
    return OrtBackend().compile(compressed(path, spec, out / "data.npz"), Conditions(), {}, out)


def fused(path: Path) -> Path:
    """A block of a transformer: onnx itself knows no types behind its first operator."""
    nodes = [
        N("Attention", ["input", "qkv", "bias"], ["a"], "attention", domain="com.microsoft", num_heads=2),
        N("MatMul", ["a", "up"], ["h"], "up"),
        N("FusedMatMul", ["h", "down"], ["output"], "down", domain="com.microsoft", transB=1),
    ]
    tensors = {"qkv": weights(8, 24), "bias": weights(24), "up": weights(8, 16), "down": weights(8, 16)}
    return save(path, nodes, tensors, ["N", 4, 8], ["N", 4, 8], opset=17, domains=("com.microsoft",))


def test_layers_behind_an_operator_that_onnx_does_not_know_are_quantized(tmp_path):
    path, rows = fused(tmp_path / "net.onnx"), weights(8, 4, 8)
    static = compile_with(path, tmp_path / "s", STATIC, input=rows).precision
    dynamic = compile_with(path, tmp_path / "d", DYNAMIC, input=rows).precision
    assert static.stayed_float == ("attention", "down")
    assert dynamic.stayed_float == ("down",)
    assert static.stayed_share == pytest.approx((8 * 24 + 8 * 16) / (8 * 24 + 2 * 8 * 16))


def test_a_fused_layer_whose_weights_are_not_packed_is_named(tmp_path):
    packed = compile_with(fused(tmp_path / "net.onnx"), tmp_path / "w", W8, input=weights(8, 4, 8)).precision
    assert set(packed.stayed_float) == {"attention", "down"}


def test_a_network_of_fused_layers_only_is_refused_with_the_remedy(tmp_path):
    nodes = [N("FusedGemm", ["input", "w"], ["output"], "fc", domain="com.microsoft", activation="Relu")]
    path = save(
        tmp_path / "net.onnx", nodes, {"w": weights(8, 4)}, [1, 8], [1, 4], opset=17, domains=("com.microsoft",)
    )
    with pytest.raises(Unsupported, match="fc would stay float32: an optimizer of ONNX Runtime fused them"):
        compile_with(path, tmp_path / "s", STATIC, input=weights(8, 8))


def test_an_output_that_is_listed_twice_stays_in_both_places(tmp_path):
    nodes = [N("MatMul", ["input", "w"], ["h"]), N("Relu", ["h"], ["output"])]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(8, 4)}, [1, 8], [1, 4])
    model = onnx.load(str(path))
    model.graph.output.append(model.graph.output[0])
    onnx.save(model, str(path))
    done = compile_with(path, tmp_path / "h", HALF)
    first, second = InferenceSession(str(done.path)).run(None, {"input": weights(1, 8)})
    assert np.array_equal(first, second)


def test_weights_of_two_branches_with_the_name_of_an_outer_one_are_packed_apart(tmp_path):
    branches = {
        f"{name}_branch": helper.make_graph(
            [N("MatMul", ["input", "w"], ["o"], "mm")],
            name,
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 8])],
            [numpy_helper.from_array(weights(8, 8), "w")],
        )
        for name in ("then", "else")
    }
    nodes = [
        N("ReduceSum", ["input"], ["s"], keepdims=0),
        N("Greater", ["s", "zero"], ["c"]),
        N("If", ["c"], ["b"], **branches),
        N("MatMul", ["b", "w"], ["output"], "mm"),
    ]
    tensors = {"w": weights(8, 4), "zero": np.array(0, np.float32)}
    path = save(tmp_path / "net.onnx", nodes, tensors, [1, 8], [1, 4], opset=17)
    done, rows = compile_with(path, tmp_path / "w", W8, input=weights(8, 8)), weights(1, 8)
    wanted = InferenceSession(str(path)).run(None, {"input": rows})[0]
    assert np.abs(InferenceSession(str(done.path)).run(None, {"input": rows})[0] - wanted).max() < 0.05


def test_a_calibration_sample_that_the_network_cannot_take_is_an_error_of_ours(tmp_path):
    nodes = [
        N("Cast", ["input"], ["i"], to=TensorProto.INT64),
        N("Gather", ["table", "i"], ["rows"]),
        N("MatMul", ["rows", "w"], ["output"]),
    ]
    tensors = {"table": weights(4, 8), "w": weights(8, 4)}
    path = save(tmp_path / "net.onnx", nodes, tensors, [1], [1, 4])
    with pytest.raises(InvalidInput, match="failed on a calibration sample"):
        compile_with(path, tmp_path / "s", STATIC, input=np.full((4,), 99, np.float32))


def test_float16_of_a_network_in_which_nothing_is_cast_is_refused(tmp_path):
    """The conversion leaves operators of ai.onnx.ml float32, and puts casts around them."""
    nodes = [N("Scaler", ["input"], ["output"], domain="ai.onnx.ml", offset=[0.0] * 4, scale=[2.0] * 4)]
    path = save(tmp_path / "net.onnx", nodes, {}, [1, 4], [1, 4], domains=("ai.onnx.ml",))
    with pytest.raises(Unsupported, match=r"nothing to cast to float16 in this network \(Scaler\)"):
        compile_with(path, tmp_path / "h", HALF)


@pytest.mark.parametrize(
    "spec", [HALF, QuantSpec(kind="weight_only", weight_bits=16)], ids=["float16", "float16_weights"]
)
def test_weights_that_float16_does_not_hold_are_refused_and_may_stay_float(spec, tmp_path):
    """They were cut to 65504 without a word."""
    tensors = {"large.weight": weights(4, 4) * 1e6, "fc.weight": weights(4, 4)}
    nodes = [
        N("MatMul", ["input", "large.weight"], ["x"], name="a"),
        N("MatMul", ["x", "fc.weight"], ["output"], name="b"),
    ]
    path = save(tmp_path / "net.onnx", nodes, tensors, [1, 4], [1, 4])
    with pytest.raises(Unsupported, match=r"layer 'large' reach .*keep_float=\('large',\)"):
        compile_with(path, tmp_path / "h", spec)
    kept = QuantSpec(kind=spec.kind, weight_bits=spec.weight_bits, keep_float=("large",))
    given = np.full((1, 4), 1e-6, np.float32)
    found = InferenceSession(compile_with(path, tmp_path / "k", kept).path).run(None, {"input": given})[0]
    np.testing.assert_allclose(found, given @ tensors["large.weight"] @ tensors["fc.weight"], rtol=0.01, atol=1e-3)


LARGE = np.array([2e5, 0, 0, 0], np.float32)


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ([N("Gemm", ["input", "fc.weight", "c"], ["output"], "n")], LARGE),
        ([N("Gemm", ["input", "fc.weight", "c"], ["output"], "n")], -LARGE),
        ([N("MatMul", ["input", "fc.weight"], ["x"]), N("Add", ["c", "x"], ["output"], "n")], -LARGE),
        ([N("MatMul", ["input", "fc.weight"], ["x"]), N("Mul", ["x", "c"], ["output"], "n")], LARGE),
        ([N("MatMul", ["input", "fc.weight"], ["x"]), N("Div", ["x", "c"], ["output"], "n")], LARGE + 1),
    ],
)
def test_a_bias_or_a_scale_that_float16_does_not_hold_is_refused(nodes, value, tmp_path):
    """They were cut to 65504 without a word."""
    tensors = {"fc.weight": weights(4, 4), "c": value}
    path = save(tmp_path / "net.onnx", nodes, tensors, [1, 4], [1, 4])
    with pytest.raises(Unsupported, match=r"'c' of .* 'n' reaches 20000[01]?: it would be cut"):
        compile_with(path, tmp_path / "h", HALF)


def test_the_bias_of_a_layer_that_stays_float_may_be_large(tmp_path):
    nodes = [
        N("Gemm", ["input", "fc.weight", "c"], ["x"], "n"),
        N("MatMul", ["x", "out.weight"], ["output"], "m"),
    ]
    tensors = {"fc.weight": weights(4, 4), "c": LARGE, "out.weight": weights(4, 4) / 1e4}
    path = save(tmp_path / "net.onnx", nodes, tensors, [1, 4], [1, 4])
    kept = QuantSpec(kind="float16", keep_float=("fc",))
    assert stored_as(compile_with(path, tmp_path / "h", kept).path, "c") == TensorProto.FLOAT


def stored_as(path: Path, name: str) -> int:
    return next(item.data_type for item in onnx.load(str(path)).graph.initializer if item.name == name)


@pytest.mark.parametrize("never", [-3e38, -1e9, -1e6, -np.inf])
def test_a_mask_beyond_float16_is_taken(tmp_path, never):
    nodes = [
        N("MatMul", ["input", "fc.weight"], ["w"], name="a"),
        N("Tanh", ["w"], ["x"]),
        N("Add", ["x", "mask"], ["y"]),
        N("Softmax", ["y"], ["output"]),
    ]
    tensors = {"fc.weight": weights(4, 4), "mask": np.array([0, 0, never, 0], np.float32)}
    path = save(tmp_path / "net.onnx", nodes, tensors, [1, 4], [1, 4])
    found = InferenceSession(compile_with(path, tmp_path / "h", HALF).path).run(None, {"input": weights(1, 4)})[0]
    assert found[0, 2] == 0


def test_operators_that_take_no_float16_stay_float32_between_those_that_do(tmp_path):
    nodes = [
        N("MatMul", ["input", "w"], ["h"], "m"),
        N("Celu", ["h"], ["c"], "celu"),
        N("IsInf", ["c"], ["i"], "inf"),
        N("Where", ["i", "h", "c"], ["output"], "where"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"w": weights(8, 4)}, [1, 8], [1, 4], opset=17)
    done, rows = compile_with(path, tmp_path / "h", HALF), weights(1, 8)
    wanted = InferenceSession(str(path)).run(None, {"input": rows})[0]
    assert np.abs(InferenceSession(str(done.path)).run(None, {"input": rows})[0] - wanted).max() < 0.01


def test_the_mask_of_an_attention_is_none_of_its_weights():
    nodes = [N("MatMul", ["x", "w"], ["q"], "q"), N("Attention", ["q", "q", "q", "mask"], ["y"], "att")]
    stored = {"w": weights(8, 8), "mask": np.ones((64, 64), bool)}
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(one, name) for name, one in stored.items()])
    assert split_by_precision(graph).weights == {"q": 64, "att": 0}


def test_both_weights_of_a_decoders_attention_are_its_own():
    node = N("DecoderAttention", ["q", "k", "q_weight", "kv_weight", "bias"], ["y"], "att", domain="com.microsoft")
    stored = {"q_weight": weights(8, 8), "kv_weight": weights(8, 16), "bias": weights(24)}
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(one, name) for name, one in stored.items()])
    assert split_by_precision(graph).weights == {"att": 64 + 128}


def test_float16_of_a_network_whose_weights_are_constants_behind_indices_is_computed(tmp_path):
    nodes = [
        N("Constant", [], ["table"], "table", value=numpy_helper.from_array(weights(10, 8))),
        N("Constant", [], ["w"], "w", value=numpy_helper.from_array(weights(8, 4))),
        N("Gather", ["table", "input"], ["h"], "gather"),
        N("MatMul", ["h", "w"], ["output"], "m"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {}, [1, 3], [1, 3, 4], opset=17)
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, str(path))
    done = compile_with(path, tmp_path / "h", HALF, input=np.zeros((1, 3), np.int64))
    ids = np.array([[1, 5, 9]])
    wanted = InferenceSession(str(path)).run(None, {"input": ids})[0]
    assert np.abs(InferenceSession(str(done.path)).run(None, {"input": ids})[0] - wanted).max() < 0.01


def test_an_identity_for_an_output_that_is_listed_twice_has_a_name_of_its_own():
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = [N("Relu", ["x"], ["h"], "y_/Identity"), N("Relu", ["h"], ["y"], "relu")]
    graph = helper.make_graph(nodes, "g", [], [value, value])
    name_outputs_apart(graph)
    assert [one.name for one in graph.node] == ["y_/Identity", "relu", "y_/Identity_"]
