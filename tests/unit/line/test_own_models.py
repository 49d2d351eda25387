"""A model that is a file goes to the backends that take it, and the user hears of it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bench.config.target import BackendChoice, Target
from bench.errors import InvalidInput
from bench.line.own_models import choose_backends
from bench.line.plan import Request, make_plan
from bench.types import Model

ORT, LITERT = BackendChoice(name="ort"), BackendChoice(name="litert", optional=True)
OPENVINO = BackendChoice(name="openvino", optional=True)
TARGET = Target(name="board", backend=(ORT, LITERT, OPENVINO))


def accepts(name: str) -> tuple[str, ...]:
    return {"ort": ("onnx",), "litert": ("tflite", "onnx"), "openvino": ("onnx", "tflite")}[name]


def test_a_file_that_the_planned_backend_does_not_take_goes_to_one_that_does():
    model = Model(name="x.tflite", file=Path("x.tflite"))
    assert choose_backends(model, [ORT], TARGET, accepts) == (
        [LITERT],
        "x.tflite: measured by litert, because ort takes no .tflite file",
    )


def test_planned_backends_that_take_the_file_are_kept_without_a_word():
    model = Model(name="x.onnx", file=Path("x.onnx"))
    assert choose_backends(model, [ORT], TARGET, accepts) == ([ORT], "")
    tflite = Model(name="x.tflite", file=Path("x.tflite"))
    assert choose_backends(tflite, [ORT, LITERT], TARGET, accepts) == ([LITERT], "")


def test_networks_and_files_that_nothing_takes_keep_what_was_planned():
    assert choose_backends(Model(name="lenet5", factory="a:b"), [ORT], TARGET, accepts) == ([ORT], "")
    odd = Model(name="x.tflite", file=Path("x.tflite"))
    only = Target(name="board", backend=(ORT,))
    assert choose_backends(odd, [ORT], only, accepts) == ([ORT], "")


def test_a_tflite_file_is_planned_on_litert_with_a_note(tflite_cases):
    plan = make_plan(Request(target="cpu", suite="smoke", models=(str(tflite_cases / "ad01_fp32.tflite"),), data=""))
    assert {cell.backend.name for cell in plan.cells} == {"litert"}
    assert plan.notes == ("ad01_fp32.tflite: measured by litert, because ort takes no .tflite file",)


def test_a_backend_that_the_user_names_is_never_replaced(tflite_cases):
    asked = Request(target="cpu", suite="smoke", models=(str(tflite_cases / "ad01_fp32.tflite"),), backends=("ort",))
    assert {cell.backend.name for cell in make_plan(asked).cells} == {"ort"}


def test_conditions_and_effort_of_the_command_line_replace_the_suites():
    asked = Request(target="cpu", suite="smoke", batch=(4,), threads=(1, 2), launches=7, time_s=0.5)
    plan = make_plan(asked)
    assert {(c.conditions.batch, c.conditions.threads) for c in plan.cells} == {(4, 1), (4, 2)}
    assert (plan.suite.measure.launches, plan.suite.measure.time_s) == (7, 0.5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": (0,)}, "--batch"),
        ({"threads": (1, -1)}, "--threads"),
        ({"launches": 0}, "launches"),
        ({"time_s": float("nan")}, "time_s"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(changes, says):
    with pytest.raises(InvalidInput, match=says):
        make_plan(Request(target="cpu", suite="smoke", **changes))


def plain_file(path: Path, shape: list[int]) -> str:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def test_a_users_model_has_no_data_set_unless_one_is_named(tmp_path):
    fits = plain_file(tmp_path / "fits.onnx", [1, 1, 8, 8])
    plan = make_plan(Request(target="cpu", suite="smoke", models=(fits, "lenet5")))
    assert {(cell.model.name, cell.data and cell.data.name) for cell in plan.cells} == {
        ("fits.onnx", None),
        ("lenet5", "digits"),
    }
    assert plan.notes == (
        (
            "fits.onnx: has no data set, because digits of suite smoke is for the suite's own networks; name one with "
            "--dataset to train, to calibrate and for an accuracy"
        ),
    )
    assert not make_plan(Request(target="cpu", suite="smoke", models=(fits,), data="")).notes
    named = make_plan(Request(target="cpu", suite="smoke", models=(fits,), data="digits"))
    assert not named.notes
    assert {cell.data and cell.data.name for cell in named.cells} == {"digits"}


def test_the_data_set_of_a_users_own_suite_judges_what_fits_and_that_is_said(tmp_path):
    fits, other = plain_file(tmp_path / "fits.onnx", [1, 1, 8, 8]), plain_file(tmp_path / "other.onnx", [1, 3])
    (tmp_path / "mine.toml").write_text('name = "mine"\ndata = "digits"\nmodels = ["lenet5"]\n')
    plan = make_plan(Request(target="cpu", suite=str(tmp_path / "mine.toml"), models=(fits, other)))
    assert {cell.data and cell.data.name for cell in plan.cells} == {"digits"}
    assert plan.notes == (
        (
            "fits.onnx: judged on digits, the data set of suite mine, because its inputs fit; "
            "name yours with --dataset, or none with --dataset ''"
        ),
    )


def test_a_data_set_named_for_a_file_that_cannot_take_it_is_refused_at_once(tmp_path):
    other = plain_file(tmp_path / "other.onnx", [1, 3])
    with pytest.raises(InvalidInput, match=r"--dataset digits: .*other.onnx: the model takes float32 \(3\)"):
        make_plan(Request(target="cpu", suite="smoke", models=(other,), data="digits"))
