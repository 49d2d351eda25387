"""A damaged model file is an `InvalidInput` that names it, or still a network: never a crash, never an endless loop."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bench.cost.count import cost_of
from bench.errors import InvalidInput
from bench.formats.flatbuffer import Malformed, root

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def small_onnx() -> bytes:
    weight = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "c.weight")
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    quantized = numpy_helper.from_array(np.arange(-4, 4, dtype=np.int8).reshape(2, 4), "f.weight")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "c.weight"], ["y"], kernel_shape=[2, 2]),
            helper.make_node("ReduceMean", ["y"], ["z"], axes=[2, 3], keepdims=0),
            helper.make_node("DequantizeLinear", ["f.weight", "s"], ["w"]),
            helper.make_node("MatMul", ["z", "w"], ["out"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 5, 5])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
        [weight, scale, quantized],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def damage(content: bytes, cut: float, flips: list[tuple[float, int]]) -> bytes:
    kept = bytearray(content[: max(1, int(len(content) * cut))])
    for place, value in flips:
        kept[int(place * (len(kept) - 1))] = value
    return bytes(kept)


def cost_or_complaint(file: Path) -> None:
    try:
        cost = cost_of(file)
    except InvalidInput as error:
        assert str(file) in str(error)  # noqa: PT017 - either end is right, and each has its law
        return
    assert cost.macs >= cost.nonzero_macs >= 0
    assert cost.params >= cost.nonzero_params >= 0
    assert cost.peak_activation_bytes >= 0


DAMAGE = {
    "cut": st.one_of(st.just(1.0), st.floats(0, 1)),
    "flips": st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
}


@FUZZ
@given(**DAMAGE)
def test_a_damaged_onnx_file_is_counted_or_refused_by_name(tmp_path: Path, cut: float, flips: list) -> None:
    file = tmp_path / "damaged.onnx"
    file.write_bytes(damage(small_onnx(), cut, flips))
    cost_or_complaint(file)


@FUZZ
@given(**DAMAGE)
def test_a_damaged_tflite_file_is_counted_or_refused_by_name(
    tflite_cases: Path, tmp_path: Path, cut: float, flips: list
) -> None:
    content = (tflite_cases / "pretrainedResnet_quant.tflite").read_bytes()
    file = tmp_path / "damaged.tflite"
    file.write_bytes(damage(content, cut, flips))
    cost_or_complaint(file)


@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8), data=st.data())
def test_flips_among_the_tables_of_a_tflite_file_are_counted_or_refused(
    tflite_cases: Path, tmp_path: Path, flips: list, data: st.DataObject
) -> None:
    content = bytearray((tflite_cases / "ad01_int8.tflite").read_bytes())
    part = data.draw(st.sampled_from([(0, 600), (len(content) - 5000, len(content))]))
    content[part[0] : part[1]] = damage(bytes(content[part[0] : part[1]]), 1.0, flips)
    file = tmp_path / "damaged.tflite"
    file.write_bytes(content)
    cost_or_complaint(file)


@pytest.mark.parametrize("name", ["x.onnx", "x.tflite"])
@pytest.mark.parametrize("content", [b"", b"\0", b"hello, I am a text\n", b"\x80\x04K\x01.", b"\x1c\0\0\0TFL3"])
def test_a_foreign_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=name):
        cost_of(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.onnx is not a file"):
        cost_of(tmp_path / "gone.onnx")


def test_another_suffix_is_refused_with_the_allowed_ones(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"net\.pt.*\.onnx or \.tflite"):
        cost_of(tmp_path / "net.pt")


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 96)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
            [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 6], data_location=TensorProto.EXTERNAL)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../secret"
    (tmp_path / "inside" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput, match="outside the model's folder"):
        cost_of(tmp_path / "inside" / "m.onnx")
    entry.value = "absent"
    (tmp_path / "inside" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput, match="no such file"):
        cost_of(tmp_path / "inside" / "m.onnx")


def test_external_data_is_read_from_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's view of a tensor that still says `external` is looked for in the current folder."""
    tensor = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
            [tensor],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    (tmp_path / "inside").mkdir()
    onnx.save(model, tmp_path / "inside" / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    cost = cost_of(Path("inside") / "m.onnx")
    assert (cost.params, cost.nonzero_params) == (16, 4)


def test_a_vector_longer_than_the_file_is_malformed() -> None:
    vtable = struct.pack("<HHH", 6, 8, 4)
    content = struct.pack("<I", 16) + b"TFL3" + b"\0\0" + vtable + struct.pack("<iI", 6, 4) + struct.pack("<I", 2**31)
    table = root(content, b"TFL3")
    with pytest.raises(Malformed, match="ends outside"):
        table.numbers(0, "i4")


def test_a_tensor_whose_buffer_is_too_short_is_refused(tflite_cases: Path, tmp_path: Path) -> None:
    """Without this, a flipped shape would silently change the count."""
    content = bytearray((tflite_cases / "ad01_int8.tflite").read_bytes())
    shape = struct.pack("<iii", 2, 128, 640)
    assert content.count(shape) >= 1
    place = content.index(shape)
    content[place : place + 12] = struct.pack("<iii", 2, 128, 641)
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(InvalidInput, match="needs"):
        cost_of(tmp_path / "m.tflite")


def one_node(node: NodeProto, shape: list[int], weight: np.ndarray) -> bytes:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


KILLERS = [
    (helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 1]), [1, 2, 4, 4], (2, 2, 2, 2)),
    (helper.make_node("Conv", ["x", "w"], ["y"], dilations=[0, 0]), [1, 2, 4, 4], (2, 2, 2, 2)),
    (helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=0), [1, 4, 4, 4], (1,)),
    (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), [1, 2, 3, 4, 5], (2, 2, 3, 3)),
]


@pytest.mark.parametrize(("node", "shape", "weight"), KILLERS)
def test_graphs_that_kill_onnx_s_own_shape_inference_are_survived(
    tmp_path: Path, node: NodeProto, shape: list[int], weight: tuple[int, ...]
) -> None:
    """Divisions by zero and unchecked ranks in its native code; a failure here ends the whole test run."""
    file = tmp_path / "m.onnx"
    file.write_bytes(one_node(node, shape, np.ones(weight, np.float32)))
    try:
        cost = cost_of(file)
    except InvalidInput as error:
        refused = str(error)
    else:
        refused = " ".join(cost.unknown)
    assert node.op_type in refused
