"""What the ONNX Runtime compiler makes of files, layers, ranges and data, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
from ort_nets import SHAPE, calibration, compiled, compressed, convnet, opened, samples, save

from backends.onnx_tools import graph
from backends.onnx_tools.calibrate import activation_ranges, load_calibration
from backends.onnx_tools.weights import pack
from backends.ort.compile import OrtBackend
from bench.errors import InvalidInput, Unsupported
from bench.types import Conditions, QuantSpec

INT8 = QuantSpec(kind="static")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return convnet(tmp_path / "net.onnx")


def scales(path: Path) -> dict[str, float]:
    """Tensor -> scale of its activation quantizer."""
    model = onnx.load(str(path))
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return {
        node.input[0].removesuffix("_QuantizeLinear_Input"): float(stored[node.input[1]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def stored_types(path: Path) -> set[str]:
    model = onnx.load(str(path))
    made = graph.producers(model.graph)
    types = {item.name: onnx.TensorProto.DataType.Name(item.data_type) for item in model.graph.initializer}
    return {types[node.input[2]] for node in made.values() if node.op_type == "QuantizeLinear"}


def test_a_fixed_file_runs_at_its_batch_and_no_other(tmp_path):
    path = convnet(tmp_path / "four.onnx", batch=4)
    assert opened(compiled(path, tmp_path / "a", batch=4), batch=4).inputs()[0].shape == (4, *SHAPE)
    with pytest.raises(Unsupported, match="is fixed to 4, batch 1 needs a free axis: give --batch 4"):
        compiled(path, tmp_path / "b", batch=1)


def test_a_fixed_file_is_quantized_at_its_batch(tmp_path):
    path = convnet(tmp_path / "four.onnx", batch=4)
    session = opened(compiled(path, tmp_path / "a", INT8, batch=4), batch=4)
    wanted = opened(compiled(path, tmp_path / "b", batch=4), batch=4).run({"input": samples(4)})[0]
    assert np.abs(session.run({"input": samples(4)})[0] - wanted).max() < 0.1 * np.abs(wanted).max()


def test_other_free_dimensions_are_named(tmp_path):
    relu = [helper.make_node("Relu", ["input"], ["output"])]
    path = save(tmp_path / "free.onnx", relu, {}, ["batch", 3, "height", "width"], ["batch", 3, "height", "width"])
    with pytest.raises(Unsupported, match="free dimensions besides the batch: height, width"):
        compiled(path, tmp_path / "out")


def test_any_symbol_or_none_may_stand_for_the_batch(tmp_path):
    for symbol in ("N", "unk__0", ""):
        path = convnet(tmp_path / f"net{symbol}.onnx", batch=symbol or "x")
        if not symbol:
            model = onnx.load(str(path))
            model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
            onnx.save(model, str(path))
        session = opened(compiled(path, tmp_path / f"out{symbol}", batch=2), batch=2)
        assert session.run({"input": samples(2)})[0].shape == (2, 10)


def test_nodes_without_a_name_get_one(net):
    model = graph.read(net)
    for node in model.graph.node:
        node.name = ""
    graph.name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_nodes_are_sorted_by_what_they_read_and_otherwise_stay(net):
    model = graph.read(net)
    wanted = [node.name for node in model.graph.node]
    graph.sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == wanted
    backwards = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    graph.sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == wanted


def test_a_node_waits_for_what_its_subgraph_captures():
    def value(name):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])

    branch = helper.make_graph([helper.make_node("Relu", ["late"], ["r"])], "branch", [], [value("r")])
    choose = helper.make_node("If", ["flag"], ["output"], name="if", then_branch=branch, else_branch=branch)
    late = helper.make_node("Neg", ["input"], ["late"], name="neg")
    made = helper.make_graph([choose, late], "g", [value("input")], [value("output")])
    graph.sort_nodes(made)
    assert [node.name for node in made.node] == ["neg", "if"]


def test_a_cycle_is_invalid_input():
    nodes = [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["a"])]
    with pytest.raises(InvalidInput, match="cycle"):
        graph.sort_nodes(helper.make_graph(nodes, "g", [], []))


def test_layers_are_found_by_the_name_of_their_weight(net):
    assert sorted(graph.layers(graph.read(net).graph)) == ["depthwise", "head", "stem"]


@pytest.mark.parametrize("kind", ["static", "dynamic", "float16", "weight_only"])
def test_an_unknown_layer_to_keep_float_is_named_with_the_nearest(kind, net, tmp_path):
    with pytest.raises(InvalidInput, match="'depthwis'; did you mean 'depthwise'"):
        compiled(net, tmp_path / "out", QuantSpec(kind=kind, keep_float=("depthwis",)))


@pytest.mark.parametrize("kind", ["dynamic", "float16", "weight_only"])
def test_a_layer_kept_float_has_its_weight_in_float32(kind, net, tmp_path):
    artifact = compiled(net, tmp_path / "out", QuantSpec(kind=kind, keep_float=("stem",)))
    stored = {item.name: item.data_type for item in onnx.load(str(artifact.path)).graph.initializer}
    assert stored["stem.weight"] == onnx.TensorProto.FLOAT
    assert stored.get("head.weight") != onnx.TensorProto.FLOAT, "absent where quantized under another name"
    assert set(stored.values()) > {onnx.TensorProto.FLOAT}, "something is not float"


def test_minmax_ranges_equal_those_of_onnxruntimes_own_calibrator(net, tmp_path):
    data = calibration(tmp_path / "data.npz", rows=7)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(np.load(data)["input"])

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"input": row[None]}

    theirs = create_calibrator(
        net, augmented_model_path=str(tmp_path / "augmented.onnx"), calibrate_method=CalibrationMethod.MinMax
    )
    theirs.collect_data(Reader())
    wanted = {name: value.range_value for name, value in theirs.compute_data().items()}
    model = graph.read(net)
    found = activation_ranges(model, load_calibration(compressed(net, data=data), 7), INT8)
    assert set(found) == set(wanted)
    for name, (low, high) in wanted.items():
        assert found[name] == pytest.approx((min(low.item(), 0), max(high.item(), 0)), rel=1e-5)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile", "mse"])
def test_ranges_do_not_depend_on_how_the_data_is_cut(method, net, tmp_path, monkeypatch):
    spec = QuantSpec(kind="static", calibration=method)
    model = graph.read(net)
    data = load_calibration(compressed(net, data=calibration(tmp_path / "data.npz", rows=12)), 12)
    wanted = activation_ranges(model, data, spec)
    monkeypatch.setattr("backends.onnx_tools.calibrate.CHUNK_BYTES", 1)
    found = activation_ranges(model, data, spec)
    for name, ends in wanted.items():
        assert found[name] == pytest.approx(ends, rel=1e-4, abs=1e-6)


def test_calibration_holds_one_chunk_at_a_time(net, tmp_path, monkeypatch):
    """No call returns activations of more than a chunk, whatever the set's size."""
    import onnxruntime

    sizes: list[int] = []
    original = onnxruntime.InferenceSession.run

    def watched(self, names, feed, *rest):
        outputs = original(self, names, feed, *rest)
        sizes.append(sum(output.nbytes for output in outputs))
        return outputs

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", watched)
    monkeypatch.setattr("backends.onnx_tools.calibrate.CHUNK_BYTES", 200_000)
    model = graph.read(net)
    data = load_calibration(compressed(net, data=calibration(tmp_path / "data.npz", rows=256)), 256)
    activation_ranges(model, data, QuantSpec(kind="static", calibration="percentile"))
    assert max(sizes) <= 200_000


def test_only_the_samples_asked_for_are_calibrated_on(net, tmp_path):
    data = samples(8)
    data[4:] *= 100
    np.savez(tmp_path / "data.npz", input=data)
    few, all_ = (
        scales(
            compiled(
                net, tmp_path / str(count), QuantSpec(kind="static", samples=count), data=tmp_path / "data.npz"
            ).path
        )
        for count in (4, 8)
    )
    assert all_["input"] > 20 * few["input"]


def test_trained_ranges_replace_calibrated_ones_by_tensor_and_by_layer(net, tmp_path):
    spec = QuantSpec(
        kind="static", activation_symmetric=False, ranges=(("input:0", -2.0, 2.0), ("head", -8.0, 8.0), ("d", 0.0, 5.1))
    )
    found = scales(compiled(net, tmp_path / "out", spec).path)
    assert found["input"] == pytest.approx(4 / 255, rel=1e-5)
    assert found["output"] == pytest.approx(16 / 255, rel=1e-5)
    assert found["d"] == pytest.approx(5.1 / 255, rel=1e-5)


def test_a_trained_range_of_nothing_is_invalid(net, tmp_path):
    with pytest.raises(InvalidInput, match="trained range for 'tail'"):
        compiled(net, tmp_path / "out", QuantSpec(kind="static", ranges=(("tail", 0.0, 1.0),)))


def test_symmetric_activations_are_uint8_on_a_cpu_and_int8_for_tensorrt(net, tmp_path):
    assert stored_types(compiled(net, tmp_path / "cpu", INT8).path) == {"UINT8"}
    lowered = QuantSpec(kind="static", activation_symmetric=False)
    artifact = compiled(net, tmp_path / "trt", lowered, provider="tensorrt")
    assert stored_types(artifact.path) == {"INT8"}
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(artifact.path)).graph.initializer}
    assert all(not value.any() for name, value in stored.items() if name.endswith("_zero_point"))


def test_symmetric_uint8_has_zero_in_the_middle_or_at_the_bottom(net, tmp_path):
    model = onnx.load(str(compiled(net, tmp_path / "out", INT8).path))
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    points = {
        node.input[0]: int(stored[node.input[2]]) for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    assert points["input"] == 128
    assert set(points.values()) == {0, 128}


def test_what_cannot_be_quantized_is_unsupported_with_the_reason(net, tmp_path):
    for spec, reason in (
        (QuantSpec(kind="static", weight_symmetric=False), "per_channel=False"),
        (QuantSpec(kind="static", activation_bits=12), "8 or 16 bits, not 12"),
        (QuantSpec(kind="static", weight_bits=3), "4, 8 or 16 bits, not 3"),
        (QuantSpec(kind="weight_only", weight_bits=2), "4, 8 or 16 bits, not 2"),
        (QuantSpec(kind="bfloat16"), "no bfloat16 kernels"),
        (QuantSpec(kind="ternary"), "'ternary'"),
    ):
        with pytest.raises(Unsupported, match=reason):
            compiled(net, tmp_path / "out", spec)
    with pytest.raises(Unsupported, match="no dynamic int8"):
        compiled(net, tmp_path / "out", QuantSpec(kind="dynamic"), provider="tensorrt")


def test_a_softmax_keeps_its_small_probabilities_and_quantizing_prints_nothing(net, tmp_path, capfd):
    model = onnx.load(str(net))
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["output"], name="softmax"))
    onnx.save(model, str(tmp_path / "soft.onnx"))
    capfd.readouterr()
    session = opened(compiled(tmp_path / "soft.onnx", tmp_path / "out", INT8))
    compiled(net, tmp_path / "sixteen", QuantSpec(kind="static", activation_bits=16))
    (found,) = session.run({"input": 10 * samples(1)})
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found.min() > 0
    assert session.facts().execution.kernels["Softmax"] == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "spec", [INT8, QuantSpec(kind="dynamic"), QuantSpec(kind="weight_only", weight_bits=8)], ids=lambda spec: spec.kind
)
def test_a_network_that_came_quantized_is_not_quantized_again(spec, net, tmp_path):
    done = compiled(net, tmp_path / "once", INT8)
    with pytest.raises(Unsupported, match=r"quantized already \(\d+ DequantizeLinear"):
        compiled(done.path, tmp_path / "twice", spec)


def test_a_network_without_weights_has_nothing_to_quantize(tmp_path):
    relu = [helper.make_node("Sin", ["input"], ["output"])]
    path = save(tmp_path / "sin.onnx", relu, {}, ["batch", *SHAPE], ["batch", *SHAPE])
    for spec in (INT8, QuantSpec(kind="dynamic"), QuantSpec(kind="weight_only", weight_bits=4)):
        with pytest.raises(Unsupported):
            compiled(path, tmp_path / "out", spec)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"image": np.zeros((4, *SHAPE), np.float32)}, "no array for input 'input'"),
        ({"input": np.zeros((4, 3, 8, 8), np.float32)}, "rows of"),
        ({"input": np.zeros((0, *SHAPE), np.float32)}, "rows of"),
        ({"input": np.full((4, *SHAPE), np.nan, np.float32)}, "NaN"),
    ],
)
def test_calibration_data_that_does_not_fit_is_invalid(arrays, reason, net, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InvalidInput, match=reason):
        compiled(net, tmp_path / "out", INT8, data=tmp_path / "data.npz")


def test_static_without_calibration_data_is_invalid(net, tmp_path):
    with pytest.raises(InvalidInput, match="needs calibration data"):
        OrtBackend().compile(compressed(net, INT8), Conditions(), {}, tmp_path)
    (tmp_path / "data.npz").write_bytes(b"not an archive")
    with pytest.raises(InvalidInput, match="no calibration data"):
        compiled(net, tmp_path / "out", INT8, data=tmp_path / "data.npz")


def test_a_network_that_overflows_on_its_calibration_data_names_the_tensor(net, tmp_path):
    np.savez(tmp_path / "data.npz", input=np.full((4, *SHAPE), 3e38, np.float32))
    with pytest.raises(InvalidInput, match="becomes NaN or infinite"):
        compiled(net, tmp_path / "out", INT8, data=tmp_path / "data.npz")


def test_an_old_file_is_brought_to_an_opset_that_can_be_quantized(tmp_path):
    path = convnet(tmp_path / "old.onnx", opset=11, weights_as_inputs=True)
    artifact = compiled(path, tmp_path / "out", INT8)
    facts = opened(artifact).facts()
    assert facts.fallbacks == ()
    assert facts.execution.kernels["QLinearConv"] == 2


def test_weights_that_a_file_of_ir_version_3_does_not_list_are_found(tmp_path):
    path = convnet(tmp_path / "old.onnx", opset=9)
    model = onnx.load(str(path))
    model.ir_version = 3
    onnx.save(model, str(path))
    artifact = compiled(path, tmp_path / "out", INT8)
    assert artifact.facts["opset_raised"] == "9 to 13"
    assert artifact.precision.stayed_float == ()


def test_weights_listed_as_inputs_are_taken_off_the_list_and_counted(tmp_path):
    path = convnet(tmp_path / "old.onnx", opset=11, weights_as_inputs=True)
    artifact = compiled(path, tmp_path / "out")
    assert artifact.facts["weights_taken_off_the_inputs"] == 6
    assert [spec.name for spec in opened(artifact).inputs()] == ["input"]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("axis", "block"), [(0, 0), (1, 0), (1, 16)])
def test_packed_weights_come_back_within_half_a_step(symmetric, bits, axis, block):
    array = np.random.default_rng(0).standard_normal((24, 40)).astype(np.float32)
    spec = QuantSpec(kind="weight_only", weight_bits=bits, weight_symmetric=symmetric)
    packed = pack(array, spec, axis, block)
    size = block or 1
    wide = [np.repeat(item, size, axis=axis) if block else item for item in (packed.scales, packed.zero_points)]
    cut = tuple(slice(0, length) for length in array.shape)
    back = (packed.values - wide[1][cut]) * wide[0][cut]
    assert np.abs(back - array).max() <= 0.5001 * packed.scales.max() * (1 if symmetric else 2)
    assert packed.values.min() >= (-(2 ** (bits - 1)) if symmetric else 0)
    assert packed.values.max() <= (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)


def test_blocks_of_4_bits_make_the_file_smaller_than_8_bits(net, tmp_path):
    sizes = [
        compiled(net, tmp_path / str(bits), QuantSpec(kind="weight_only", weight_bits=bits)).facts["file_bytes"]
        for bits in (4, 8)
    ]
    assert sizes[0] < sizes[1] < net.stat().st_size


def slashed(path: Path) -> Path:
    """Nodes named as torch's older exporter names them; `/fc1` is a node and the beginning of another's name."""
    draw = np.random.default_rng(0)
    tensors = {
        "fc1.weight": draw.standard_normal((64, 128)) / 5,
        "fc1.bias": draw.standard_normal(128) / 5,
        "fc2.weight": draw.standard_normal((128, 10)) / 5,
        "fc2.bias": draw.standard_normal(10) / 5,
    }
    nodes = [
        helper.make_node("MatMul", ["input", "fc1.weight"], ["a"], name="/fc1/MatMul"),
        helper.make_node("Add", ["a", "fc1.bias"], ["b"], name="/fc1/Add"),
        helper.make_node("Relu", ["b"], ["c"], name="/fc1"),
        helper.make_node("MatMul", ["c", "fc2.weight"], ["d"], name="/fc1/fc2/MatMul"),
        helper.make_node("Add", ["d", "fc2.bias"], ["output"], name="/fc1/fc2/Add"),
    ]
    return save(path, nodes, tensors, ["batch", 64], ["batch", 10], opset=17)


@pytest.mark.parametrize("name", ["fc1", "/fc1/MatMul"])
@pytest.mark.parametrize("kind", ["static", "dynamic", "float16", "weight_only"])
def test_a_layer_whose_name_has_slashes_stays_float_and_its_neighbour_does_not(kind, name, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, input=np.random.default_rng(1).standard_normal((16, 64), dtype=np.float32))
    spec = QuantSpec(kind=kind, keep_float=(name,))
    artifact = compiled(slashed(tmp_path / "net.onnx"), tmp_path / "out", spec, data=data)
    stored = {item.name: item.data_type for item in onnx.load(str(artifact.path)).graph.initializer}
    assert stored["fc1.weight"] == onnx.TensorProto.FLOAT
    assert stored.get("fc2.weight") != onnx.TensorProto.FLOAT
    assert [kept.startswith("/fc1/MatMul") for kept in artifact.precision.keep_float] == [True]
    assert artifact.precision.stayed_float == ()


@pytest.mark.parametrize("kind", ["static", "dynamic", "float16", "weight_only"])
def test_a_gemm_stays_float_by_its_layers_name(kind, net, tmp_path):
    artifact = compiled(net, tmp_path / "out", QuantSpec(kind=kind, keep_float=("head",)))
    stored = {item.name: item.data_type for item in onnx.load(str(artifact.path)).graph.initializer}
    assert stored["head.weight"] == onnx.TensorProto.FLOAT
    assert artifact.precision.keep_float == ("n6_MatMul" if kind == "dynamic" else "n6",)


def test_a_name_with_slashes_that_matches_nothing_is_invalid_and_the_nearest_is_named(tmp_path):
    spec = QuantSpec(kind="dynamic", keep_float=("/fc1/MatMull",))
    with pytest.raises(InvalidInput, match=r"did you mean '/fc1/MatMul'"):
        compiled(slashed(tmp_path / "net.onnx"), tmp_path / "out", spec)


@given(order=st.permutations(range(8)), reads=st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_sorted_nodes_come_after_what_they_read_and_onnx_ir_finds_nothing_to_move(order, reads):
    """Node `i` reads tensors made before it; the file has the nodes in any order."""
    nodes = [
        helper.make_node("Add", [f"t{min(reads[i], i)}", f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(4)
    ] + [helper.make_node("Relu", [f"t{min(reads[i], 4)}"], [f"u{i}"], name=f"n{i}") for i in range(4, 8)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("t0", "t4")]
    model = helper.make_model(helper.make_graph([nodes[i] for i in order], "g", ends[:1], ends[1:]))
    graph.sort_nodes(model.graph)
    found = [node.name for node in model.graph.node]
    assert sorted(found) == sorted(node.name for node in nodes)
    theirs = onnx_ir.from_proto(model)
    theirs.graph.sort()
    assert [node.name for node in theirs.graph] == found
    graph.sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == found
