"""A data set, and files of inputs, in the other layout than the network's: turned, measured and said so."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from command_line import CommandLine
from onnx import TensorProto, helper, numpy_helper, save

SUITE = """
name = "quick"
models = ["last.onnx"]
[recipes]
int8 = "int8()"
[measure]
launches = 1
pairs = 0
time_s = 0.05
warmup_s = 0.01
profile_runs = 0
"""
NOTE = "are turned to channels last, as the network takes them"


@pytest.fixture
def pressbench(tmp_path):
    environment = {**os.environ, "PRESSBENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "quick.toml").write_text(SUITE)
    return CommandLine(folder=tmp_path, environment=environment)


@pytest.fixture
def mean_of_channels(pressbench):
    """A file of images (batch, 8, 8, 3): the brightest channel is the class. Data in `first.npz`, channels first."""
    inputs = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 8, 3])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    stored = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.eye(3, dtype=np.float32), "w"),
    ]
    graph = helper.make_graph(nodes, "g", [inputs], [output], stored)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), pressbench.folder / "last.onnx")
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = generator.random((60, 3, 8, 8), dtype=np.float32)
    x[np.arange(60), y] += 0.5
    np.savez(pressbench.folder / "first.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    np.savez(pressbench.folder / "given.npz", x=x[:20])
    return "last.onnx"


def test_a_run_turns_the_images_and_says_so_in_terminal_record_and_page(pressbench, mean_of_channels):
    asked = ["run", "--suite", "quick.toml", "--model", mean_of_channels, "--dataset", "first.npz"]
    done = pressbench(*asked, "--results", "out")
    assert done.returncode == 0, done.stderr
    assert NOTE in done.stdout + done.stderr
    with (pressbench.folder / "out" / "cells.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["accuracy"] for cell in cells] == ["1.0", "1.0"]
    assert all(NOTE in cell["reason"] for cell in cells)
    assert NOTE in (pressbench.folder / "out" / "dashboard.html").read_text(encoding="utf-8")


def test_files_of_inputs_are_turned_and_said_so(pressbench, mean_of_channels):
    asked = ["compress", "--model", mean_of_channels, "--recipe", "int8()", "--out", "q.onnx", "--json"]
    judged = json.loads(pressbench(*asked, "--input-data", "given.npz").stdout)
    assert judged["top1_agreement"] == 1.0
    assert "given.npz: 'x' is turned to channels last" in judged["note"]
    calibrated = json.loads(pressbench(*asked, "--dataset", "first.npz", "--calibrate", "given.npz").stdout)
    assert calibrated["accuracy"] == 1.0
    assert "given.npz: 'x' is turned to channels last" in calibrated["note"]
    assert NOTE in calibrated["note"]
