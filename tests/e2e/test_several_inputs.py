"""Files with several inputs, measured and quantized by the real runtimes from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quick_run import run, settle

from bench.cli import main

F, I64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(autouse=True)
def suite(tmp_path, monkeypatch):
    settle(tmp_path, tmp_path / "cache", monkeypatch, '[recipes]\nint8 = "int8()"')


def save(file, nodes, inputs, outputs, **tensors):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def weights(*shape):
    return np.random.default_rng(0).normal(0, 0.3, shape).astype(np.float32)


def encoder():
    """Token ids and a mask of free length: looks up, masks, multiplies, and takes the mean."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "lookup"),
        helper.make_node("Cast", ["mask"], ["m"], "cast", to=F),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"], "widen"),
        helper.make_node("Mul", ["e", "m3"], ["masked"], "masking"),
        helper.make_node("MatMul", ["masked", "w"], ["h"], "fc"),
        helper.make_node("ReduceMean", ["h"], ["y"], "mean", axes=[1], keepdims=0),
    ]
    inputs = [(name, I64, ["batch", "length"]) for name in ("ids", "mask")]
    stored = {"table": weights(40, 8), "w": weights(8, 5), "last": np.array([-1], np.int64)}
    return save("encoder.onnx", nodes, inputs, [("y", F, ["batch", 5])], **stored)


def accumulator():
    """X (N, 4) and a state (2, N, 4) of which half is kept; a scalar that must be 16000."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "fc"),
        helper.make_node("Mul", ["state", "half"], ["kept"], "keep"),
        helper.make_node("Add", ["kept", "a"], ["next"], "add"),
        helper.make_node("Equal", ["rate", "wanted"], ["same"], "equal"),
        helper.make_node("Cast", ["same"], ["gate"], "cast", to=F),
        helper.make_node("ReduceSum", ["next", "first"], ["s"], "sum", keepdims=0),
        helper.make_node("Mul", ["s", "gate"], ["y"], "gate"),
    ]
    inputs = [("x", F, ["N", 4]), ("state", F, [2, "N", 4]), ("rate", I64, [])]
    outputs = [("y", F, ["N", 4]), ("next", F, [2, "N", 4])]
    stored = {"w": weights(4, 4), "wanted": np.array(16000, np.int64), "first": np.array([0], np.int64)}
    stored["half"] = np.array(0.5, np.float32)
    return save("state.onnx", nodes, inputs, outputs, **stored)


def test_an_encoder_is_measured_and_quantized_on_the_users_own_inputs():
    generator = np.random.default_rng(1)
    ids, mask = generator.integers(0, 40, (24, 6)), np.ones((24, 6), np.int64)
    np.savez("calls.npz", ids=ids, mask=mask)
    cells = run("--model", encoder(), "--input", "ids=N,6", "--input-data", "calls.npz")
    assert {cell["status"] for cell in cells.values()} <= {"ok", "inconclusive"}
    assert cells["int8"]["inputs"] == "12 of 24 samples of calls.npz"
    assert cells["int8"]["calibration"] == "12 of 24 samples of calls.npz, which do not judge, seed 0"
    assert 0 < float(cells["int8"]["output_relative_rms"]) < 0.2


def test_drawn_ids_are_rows_of_the_table_and_the_record_says_so():
    cells = run("--model", encoder(), "--input", "ids=N,6", "--batch", "2", "--recipe", "int8()")
    assert "ids: whole numbers 0..39, mask: mask of ones, then zeros" in cells["baseline"]["inputs"]
    assert "nothing to calibrate on" in cells["int8()"]["reason"]


def test_a_free_size_is_refused_with_the_option_that_gives_it():
    cells = run("--model", encoder(), code=3)
    assert cells["baseline"]["reason"].endswith("give them: --input ids=N,<length>")


def test_a_state_is_fed_back_in_judging_and_in_calibration():
    asked = ("--model", accumulator(), "--feedback", "next=state", "--calibrate", "random", "--batch", "2")
    cells = run(*asked)
    assert "state: 0 at first, rate: always 16000" in cells["baseline"]["inputs"]
    assert 0 < float(cells["int8"]["output_relative_rms"]) < 0.2
    assert cells["baseline"]["macs"] == cells["int8"]["macs"] == "16"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input", "idz=N,6"), "unknown input of encoder.onnx in --input 'idz'; did you mean 'ids'"),
        (("--input-shape", "6"), "--input-shape is for one input, there are ids, mask"),
        (("--input", "ids=N,6", "--feedback", "z=ids"), "unknown output of encoder.onnx in --feedback 'z'"),
        (("--input", "ids=N,6", "--input-data", "none.npz"), "--input-data: file none.npz does not exist"),
        (("--input", "ids=N,6", "--signature", "a"), "an .onnx file has none: leave it out"),
        (("--input", "ids=N,6", "--model", "resnet8"), "--input belongs to one model"),
    ],
)
def test_what_does_not_fit_ends_the_command_before_it_begins(capsys, options, said):
    run("--model", encoder(), *options, code=2)
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_inspect_shows_what_a_file_takes(capsys):
    with pytest.raises(SystemExit):
        main(["inspect", encoder(), "--input", "ids=N,6", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["ports"]}
    assert (rows["ids"]["shape"], rows["ids"]["batch"], rows["ids"]["values"]) == (
        "batch, length",
        "axis 0",
        "whole numbers 0..39",
    )
    assert rows["y"]["batch"] == "axis 0"
    assert found["macs"] == 6 * 8 * 5


def test_compare_times_two_files_on_the_same_inputs(capsys):
    Path("other.onnx").write_bytes(Path(accumulator()).read_bytes())
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--target", "cpu", "--launches", "3", "--blocks", "5", "state.onnx", "other.onnx"])
    assert ended.value.code in (0, 4)
    assert "times as long as A" in capsys.readouterr().out
