"""Laws of the runtimes side by side: who is called faster, and what is said of why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import launches, measured, on, run
from numpy.random import default_rng

from bench.records import LayerTime
from bench.report.cells import cells_of
from bench.report.execution_notes import what_ran
from bench.report.page import render
from bench.report.runtimes import UNDECIDED, side_by_side
from bench.types import Clock, Conditions, Simulation, Status


def matches(*records):
    found = side_by_side(cells_of(records))
    return found.matches if found else ()


def said(cell):
    return {ran.what: ran.text for ran in what_ran(cell)}


LITERT = {
    "kernels": "xnnpack",
    "layout": "channels_last",
    "operators": {"CONV_2D": 8, "AVERAGE_POOL_2D": 1},
    "delegated": 8,
    "partitions": 2,
    "not_delegated": {"AVERAGE_POOL_2D": 1},
    "integer_tensors_converted_outside_timing": ["input"],
}


def test_the_runtime_whose_interval_ends_before_the_others_begin_is_faster():
    (match,) = matches(on("ort", 10.0), on("litert", 5.0), on("pytorch", 30.0))
    assert (match.winner, match.detail) == ("litert", "ort takes 2.00× as long")
    assert [(side.backend, side.won, side.accuracy) for side in match.sides] == [
        ("ort", False, "90.00 %"),
        ("litert", True, "90.00 %"),
        ("pytorch", False, "90.00 %"),
    ]


def test_overlapping_intervals_show_no_difference():
    (match,) = matches(on("ort", 5.0), on("litert", 5.001))
    assert (match.winner, match.detail) == (UNDECIDED, "the intervals of ort, litert overlap")


def test_a_median_without_an_interval_wins_nothing():
    (match,) = matches(on("ort", 5.0), on("litert", 1.0, launches=launches(default_rng(0), 1.0, count=2)))
    assert (match.winner, match.detail) == (UNDECIDED, "fewer than 3 launches have no interval")


def test_an_untrusted_runtime_is_shown_and_never_wins():
    (match,) = matches(on("ort", 5.0), on("litert", 1.0, status=Status.UNTRUSTED, reasons=("fell back",)))
    assert (match.winner, match.detail) == ("–", "only ort can be believed")
    assert match.sides[1].text == "1.01"
    (match,) = matches(on("ort", 5.0), on("litert", 9.0), on("trt", 1.0, status=Status.UNTRUSTED))
    assert match.winner == "ort"


def test_an_inconclusive_runtime_is_ranked_by_its_interval():
    (match,) = matches(on("ort", 5.0), on("litert", 1.0, status=Status.INCONCLUSIVE))
    assert match.winner == "litert"


def test_clocks_of_different_kinds_are_never_ranked():
    device = on("trt", 1.0, clock=Clock.DEVICE)
    device = replace(device, launches=tuple(replace(x, device_ns=x.samples_ns) for x in device.launches))
    simulated = on("vela", 1.0, clock=Clock.SIMULATED, launches=(), simulation=Simulation(source="s", latency_ms=0.1))
    assert matches(on("ort", 5.0), device, simulated) == ()
    found = matches(on("ort", 5.0), on("litert", 9.0), device, simulated)
    assert [(match.winner, [side.backend for side in match.sides if side.cell]) for match in found] == [
        ("ort", ["ort", "litert"])
    ]


@pytest.mark.parametrize("changes", [{"data": "other"}, {"model": "other"}, {"target": "other"}, {"run_id": "other"}])
def test_runtimes_are_compared_on_the_same_model_data_and_target_of_one_run(changes):
    assert matches(on("ort", 5.0), on("litert", 9.0, **changes)) == ()


def test_each_recipe_and_each_set_of_conditions_is_a_row_of_its_own():
    many = Conditions(batch=8)
    found = matches(
        *(on(backend, 5.0, recipe=recipe) for backend in ("ort", "litert") for recipe in ("baseline", "int8")),
        *(on(backend, 40.0, conditions=many) for backend in ("ort", "litert")),
    )
    assert [(match.recipe, match.where) for match in found] == [
        ("baseline", "on cpu, measured, batch 1, 1 thread"),
        ("int8", "on cpu, measured, batch 1, 1 thread"),
        ("baseline", "on cpu, measured, batch 8, 1 thread"),
    ]


def test_the_last_run_that_has_several_runtimes_counts():
    old = [on("ort", 5.0, run_id="1"), on("litert", 9.0, run_id="1")]
    new = [on("ort", 9.0, run_id="2"), on("litert", 5.0, run_id="2")]
    alone = [on("ort", 1.0, run_id="3")]
    assert [match.winner for match in matches(*old, *new, *alone)] == ["litert"]


def test_a_runtime_that_cannot_do_a_recipe_stands_in_its_row():
    skip = on("trt", 1.0, recipe="int4", status=Status.SKIPPED, launches=(), reasons=("no int4",))
    found = matches(on("ort", 5.0), on("trt", 9.0), on("ort", 5.0, recipe="int4"), skip)
    assert [(match.recipe, match.winner, match.detail) for match in found] == [
        ("baseline", "ort", "trt takes 1.80× as long"),
        ("int4", "–", "only ort can be believed"),
    ]


def test_one_runtime_alone_makes_no_section():
    assert side_by_side(cells_of(list(measured(default_rng(3), "r")))) is None
    assert 'id="runtimes"' not in render([on("ort", 5.0)], [run()])


def test_facts_say_what_ran_in_words():
    layers = (
        LayerTime(name="a", operator="Convolution (NHWC, QC8) IGEMM", mean_us=60, runs=1),
        LayerTime(name="b", operator="Convolution (NHWC, QC8) IGEMM", mean_us=20, runs=1),
        LayerTime(name="c", operator="Transpose (ND, X8) Transpose", mean_us=20, runs=1),
        LayerTime(name="d", operator="TRANSPOSE_CONV", mean_us=0, runs=1),
    )
    cell = on("litert", 1.0, facts={"session": LITERT, "compile": {"arithmetic": "int8"}}, profile=layers)
    assert said(cell) == {
        "partitions": "8 of 9 operators delegated in 2 partitions; not taken: AVERAGE_POOL_2D ×1",
        "kernels": "xnnpack, int8",
        "layout": "channels last, Transpose (ND, X8) Transpose ×1 (20 % of the time)",
        "number types": "before the clock starts: input",
        "time": "Convolution (NHWC, QC8) IGEMM ×2: 80 %, Transpose (ND, X8) Transpose ×1: 20 %",
    }


def test_without_a_profile_the_kernels_that_the_session_counted_tell():
    session = {
        "nodes_by_provider": {"CUDAExecutionProvider": 20, "CPUExecutionProvider": 2},
        "kernels": {"QLinearConv": 9, "Transpose": 2, "ConvTranspose": 1},
    }
    cell = on("ort", 1.0, facts={"session": session, "compile": {"session_options": {"precision": "int8"}}})
    assert said(cell) == {
        "partitions": "20 nodes on CUDA, 2 nodes on CPU",
        "kernels": "int8 asked for, QLinearConv ×9, Transpose ×2, ConvTranspose ×1",
        "layout": "Transpose ×2",
    }


def test_an_engine_tells_what_its_products_take():
    layers = {
        "count": 3,
        "kinds": {"Conv Int8": 2},
        "multiplying": [{"takes": "Int8"}, {"takes": "Int8"}, {"takes": "Half"}],
    }
    options = {"asked": "int8", "float_layers": ""}
    cell = on("trt", 1.0, facts={"session": {"layers": layers}, "compile": {"session_options": options}})
    assert said(cell) == {"kernels": "int8 asked for, products take Int8 ×2, Half ×1"}


@pytest.mark.parametrize("odd", [None, 3, "text", ["a"], {"operators": 3, "partitions": "x", "layout": {}}])
def test_facts_of_another_shape_say_nothing(odd):
    assert said(on("x", 1.0, facts={"session": odd, "compile": odd})) == {}


def test_hostile_facts_are_text_on_the_page():
    name = "<img src=x onerror=alert(1)>"
    facts = {"session": {"kernels": name, "layout": name, "operators": {name: 2}, "partitions": 1, "delegated": 2}}
    layers = (LayerTime(name=name, operator=name, mean_us=5, runs=1),)
    cells = [on(b, ms, facts=facts, profile=layers, reasons=(name,)) for b, ms in (("ort", 5.0), (name, 9.0))]
    text = render(cells, [run()])
    body = text[: text.index("<script>")]
    assert "<img" not in body
    assert body[body.index('id="runtimes"') :].count("&lt;img") >= 8
