"""Laws of the runtimes side by side: who is called faster, and what is said of why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import launches, measured, on, run
from numpy.random import default_rng

from bench.records import Execution, LayerTime
from bench.report.cells import make_cells
from bench.report.page import render_page
from bench.report.page.execution_notes import describe_execution
from bench.report.page.runtimes import compare_runtimes
from bench.report.signs import NO_DIFFERENCE
from bench.types import Clock, Conditions, Precision, Simulation, Status


def matches(*records):
    found = compare_runtimes(make_cells(records))
    return found.matches if found else ()


def said(cell):
    return {note.what: note.text for note in describe_execution(cell)}


LITERT = Execution(
    library="XNNPACK",
    layout="channels_last",
    operators={"CONV_2D": 8, "AVERAGE_POOL_2D": 1},
    delegated=8,
    partitions=2,
    not_delegated={"AVERAGE_POOL_2D": 1},
    converted_outside=("input",),
)


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
    assert (match.winner, match.detail) == (
        NO_DIFFERENCE,
        "the intervals of ort, litert overlap or are not over 1 % apart",
    )


def test_a_median_without_an_interval_wins_nothing():
    (match,) = matches(on("ort", 5.0), on("litert", 1.0, launches=launches(default_rng(0), 1.0, count=2)))
    assert (match.winner, match.detail) == (NO_DIFFERENCE, "fewer than 3 launches have no interval")


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
    assert compare_runtimes(make_cells(list(measured(default_rng(3), "r")))) is None
    assert 'id="runtimes"' not in render_page([on("ort", 5.0)], [run()])


def test_a_record_says_what_ran_in_words():
    layers = (
        LayerTime(name="a", operator="Convolution (NHWC, QC8) IGEMM", mean_us=60, runs=1),
        LayerTime(name="b", operator="Convolution (NHWC, QC8) IGEMM", mean_us=20, runs=1),
        LayerTime(name="c", operator="Transpose (ND, X8) Transpose", mean_us=20, runs=1),
        LayerTime(name="d", operator="TRANSPOSE_CONV", mean_us=0, runs=1),
    )
    asked = Precision(asked="int8", delivered="int8", keep_float=("stem",), stayed_float=("a", "b"))
    assert said(on("litert", 1.0, execution=LITERT, precision=asked, profile=layers)) == {
        "partitions": "8 of 9 operators delegated in 2 partitions; not taken: AVERAGE_POOL_2D ×1",
        "kernels": "XNNPACK, int8, 1 layer kept float, 2 layers stayed float",
        "layout": "channels last, Transpose (ND, X8) Transpose ×1 (20 % of the time)",
        "number types": "before the clock starts: input",
        "time": "Convolution (NHWC, QC8) IGEMM ×2: 80 %, Transpose (ND, X8) Transpose ×1: 20 %",
    }


def test_without_a_profile_the_kernels_that_the_session_counted_are_shown():
    ran = Execution(
        nodes_by_provider={"CUDAExecutionProvider": 20, "CPUExecutionProvider": 2},
        kernels={"QLinearConv": 9, "Transpose": 2, "ConvTranspose": 1},
    )
    assert said(on("ort", 1.0, execution=ran, precision=Precision(asked="int8"))) == {
        "partitions": "20 nodes on CUDA, 2 nodes on CPU",
        "kernels": "int8 asked for, QLinearConv ×9, Transpose ×2, ConvTranspose ×1",
        "layout": "Transpose ×2",
    }


def test_an_engine_says_what_it_multiplies_in_and_a_session_its_mode_and_sparse_layers():
    ran = Execution(multiplying={"int8": 2, "float16": 1}, mode="cudagraph", sparse_layers=("a", "b"))
    assert said(on("trt", 1.0, execution=ran, precision=Precision(asked="int8"))) == {
        "kernels": "int8 asked for, cudagraph, 2 sparse layers, multiplies in int8 ×2, float16 ×1"
    }


def test_what_the_session_saw_counts_more_than_what_the_compiler_says():
    ran = on("x", 1.0, execution=Execution(precision="float16"), precision=Precision(asked="int8", delivered="int8"))
    assert said(ran) == {"kernels": "float16"}


def test_a_record_of_a_file_that_never_ran_says_nothing():
    assert said(on("x", 1.0)) == {}


def test_hostile_names_of_kernels_are_text_on_the_page():
    name = "<img src=x onerror=alert(1)>"
    ran = Execution(library=name, layout=name, operators={name: 2}, partitions=1, delegated=2, not_delegated={name: 1})
    layers = (LayerTime(name=name, operator=name, mean_us=5, runs=1),)
    cells = [on(b, ms, execution=ran, profile=layers, reasons=(name,)) for b, ms in (("ort", 5.0), (name, 9.0))]
    text = render_page(cells, [run()])
    body = text[: text.index('<script type="text/plain"')]
    assert "<img" not in body
    assert body[body.index('id="runtimes"') :].count("&lt;img") >= 10
