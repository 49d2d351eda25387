"""Work inside Loop, If and Scan: as often as the file says, else once and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.cost.count import cost_of

F, WHOLE, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
N = 8
MACS = N * N
"""Of one (1, 8) by (8, 8) product."""


def value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str = "w") -> onnx.TensorProto:
    array = np.ones((N, N), np.float32)
    array[0] = 0
    return numpy_helper.from_array(array, name)


def scalar(name: str, number: object, kind: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(number, kind), name)


def save(path: Path, nodes: list[onnx.NodeProto], inputs=(), stored=()) -> Path:
    graph = helper.make_graph(nodes, "g", [value("x", F, [1, N]), *inputs], [value("y", F, [1, N])], list(stored))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def branch(name: str, *, multiplies: bool) -> onnx.GraphProto:
    node = helper.make_node("MatMul", ["x", "w"], [name]) if multiplies else helper.make_node("Identity", ["x"], [name])
    return helper.make_graph([node], name, [], [value(name, F, [1, N])], [weight()] if multiplies else [])


def loop(path: Path, trips: int | None, condition: str = "go", state: object = (1, N), grows: bool = False) -> Path:
    """A Loop of one product; `condition`: which value its body hands on as the condition; `state`: the declared shape."""
    inner = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["product"]),
            helper.make_node("Concat", ["product"] * (2 if grows else 1), ["next"], axis=0),
            helper.make_node("Identity", [condition], ["again"]),
        ],
        "body",
        [value("i", WHOLE, []), value("go", B, []), value("state", F, state)],
        [value("again", B, []), value("next", F, state)],
    )
    node = helper.make_node("Loop", ["trips", "start", "x"], ["y"], "loop", body=inner)
    stored = [weight(), scalar("start", True, "bool")]
    if trips is not None:
        return save(path, [node], [value("other", B, [])], [*stored, scalar("trips", trips, "int64")])
    return save(path, [node], [value("trips", WHOLE, []), value("other", B, [])], stored)


def test_a_loop_with_a_known_trip_count_counts_its_body_so_often(tmp_path):
    cost = cost_of(loop(tmp_path / "m.onnx", 5))
    assert (cost.macs, cost.nonzero_macs, cost.params) == (5 * MACS, 5 * (MACS - N), N * N)
    assert not cost.unknown


def test_a_state_that_leaves_its_body_as_it_came_has_the_shape_it_begins_with(tmp_path):
    """The body does not declare it; one that grows from pass to pass is marked."""
    cost = cost_of(loop(tmp_path / "m.onnx", 5, state=None))
    assert (cost.macs, cost.unknown) == (5 * MACS, ())
    grown = cost_of(loop(tmp_path / "n.onnx", 5, state=None, grows=True))
    assert "MatMul (shape of an operand known at run time only)" in grown.unknown


@pytest.mark.parametrize(("trips", "condition"), [(None, "go"), (5, "other")])
def test_a_loop_whose_passes_only_a_run_shows_counts_once_and_is_marked(tmp_path, trips, condition):
    cost = cost_of(loop(tmp_path / "m.onnx", trips, condition))
    assert cost.macs == MACS
    assert cost.unknown == ("Loop (number of passes known at run time only: counted once)",)


def test_an_if_counts_the_branch_with_more_macs_and_is_marked(tmp_path):
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", multiplies=True), else_branch=branch("b", multiplies=False)
    )
    cost = cost_of(save(tmp_path / "m.onnx", [node], [value("c", B, [])]))
    assert (cost.macs, cost.params) == (MACS, N * N)
    assert cost.unknown == ("If (branch taken known at run time only: counted once)",)


def test_an_if_without_a_product_is_free_and_not_marked(tmp_path):
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", multiplies=False), else_branch=branch("b", multiplies=False)
    )
    cost = cost_of(save(tmp_path / "m.onnx", [node], [value("c", B, [])]))
    assert (cost.macs, cost.unknown) == (0, ())


def test_weights_of_two_branches_with_one_name_are_two_weights(tmp_path):
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", multiplies=True), else_branch=branch("b", multiplies=True)
    )
    cost = cost_of(save(tmp_path / "m.onnx", [node], [value("c", B, [])]))
    assert (cost.macs, cost.params, cost.weight_bytes) == (MACS, 2 * N * N, 2 * 4 * N * N)


def test_a_scan_counts_its_body_once_a_step(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["state", "w"], ["p"]), helper.make_node("Add", ["p", "part"], ["next"])],
        "body",
        [value("state", F, [1, N]), value("part", F, [1, N])],
        [value("next", F, [1, N])],
    )
    node = helper.make_node("Scan", ["x", "steps"], ["y"], num_scan_inputs=1, body=inner)
    cost = cost_of(save(tmp_path / "m.onnx", [node], [value("steps", F, [7, 1, N])], [weight()]))
    assert (cost.macs, cost.unknown) == (7 * MACS, ())
