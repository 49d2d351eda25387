"""Laws of what the page ranks, what stays out of a mean, and why a figure is empty."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import launches, measured, on, record
from numpy.random import default_rng

from bench.records import Quality
from bench.report.advice import advise_cells
from bench.report.cells import make_cells
from bench.report.charts.legend import make_legend
from bench.report.charts.scatter import draw_accuracy
from bench.report.page.cell_table import make_table
from bench.report.page.headlines import write_headlines
from bench.report.page.promises import chart_promises, find_baselines
from bench.report.page.troubles import list_gaps, list_troubles
from bench.report.table import compute_rows
from bench.types import Conditions, Status


def test_headlines_rank_within_one_clock_and_one_set_of_conditions():
    cells = make_cells(
        [
            on("ort", ms * batch, conditions=Conditions(batch=batch), recipe=recipe)
            for batch in (1, 8)
            for recipe, ms in (("baseline", 5.0), ("int8", 9.0))
        ]
    )
    assert [card.where for card in write_headlines(advise_cells(cells))] == [
        "on cpu, measured, batch 1, 1 thread",
        "on cpu, measured, batch 8, 1 thread",
    ]


def test_a_front_ranks_one_set_of_conditions():
    cells = make_cells([on("ort", 1.0), on("ort", 20.0, conditions=Conditions(batch=32, threads=2))])
    figures = draw_accuracy(cells, make_legend(cells))
    assert [figure.note for figure in figures] == [
        "digits on cpu, measured, batch 1, 1 thread",
        "digits on cpu, measured, batch 32, 2 threads",
    ]
    assert [len(figure.data[1]["x"]) for figure in figures] == [1, 1]


def test_promises_of_two_backends_are_two_charts():
    records = [cell for cell in measured(default_rng(3), "r") if cell.model == "resnet8"]
    records += [replace(c, backend="litert", key=f"l{c.key}", baseline_key=f"l{c.baseline_key}") for c in records]
    found = chart_promises(make_cells(records), find_baselines(records))
    assert [chart.where for chart in found] == ["ort on cpu, measured", "litert on cpu, measured"]


def test_another_data_set_stays_out_of_the_mean_over_corruptions_and_has_a_column_of_its_own():
    quality = Quality(samples=9, accuracy=0.95, shifted={"blur": 0.5, "contrast": 0.7, "usps": 0.1})
    cell = record(quality=quality)
    assert compute_rows([cell])[0]["shifted_accuracy"] == pytest.approx(0.6)
    shown = make_table(make_cells([cell]))
    heads = [column.head for column in shown.columns]
    assert heads.index("accuracy on usps") == heads.index("shifted") + 1
    assert shown.rows[0].fields[heads.index("accuracy on usps")].text == "10.00 %"
    assert compute_rows([record(quality=Quality(samples=9, shifted={"usps": 0.1}))])[0]["shifted_accuracy"] is None


def test_an_empty_percentile_says_how_many_samples_it_needs():
    cells = make_cells(
        [
            record(key="few", launches=launches(default_rng(0), 1.0, samples=60)),
            record(key="fewer", launches=launches(default_rng(0), 1.0, samples=50)),
            record(key="many", launches=launches(default_rng(0), 1.0)),
        ]
    )
    shown = make_table(cells)
    column = next(i for i, c in enumerate(shown.columns) if c.name == "latency_p99_ms")
    few, fewer, many = (row.fields[column] for row in shown.rows)
    assert few.why.endswith("samples support no 95 % bound of p99: it needs 299")
    assert (many.why, many.text != "–") == ("", True)
    assert few.why != fewer.why
    said = [(gap.why, gap.cells) for gap in list_gaps(cells) if gap.columns == ["latency_p99_ms"]]
    assert said == [("so few samples support no 95 % bound of p99: it needs 299", 2)]


def skipped(backend, recipe, reason="not here", **changes):
    return on(backend, 1.0, recipe=recipe, status=Status.SKIPPED, launches=(), reasons=(reason,), **changes)


def reasons_of(*records):
    """(names, place) of each reason of the only status there is."""
    (trouble,) = list_troubles(make_cells(records))
    return [(reason.names, reason.where) for reason in trouble.reasons]


def test_cells_of_one_place_and_reason_are_one_trouble():
    assert reasons_of(
        skipped("trt", "a"), skipped("trt", "b"), on("trt", 1.0), skipped("ort", "a"), on("ort", 1.0)
    ) == [
        (["lenet5 / a", "lenet5 / b"], "trt on cpu"),
        (["lenet5 / a"], "ort on cpu"),
    ]


def test_a_reason_of_all_cells_of_a_model_in_a_place_names_the_model_once():
    here = [skipped("trt", recipe, model=model) for model in ("lenet5", "resnet8") for recipe in ("a", "b")]
    elsewhere = [on("ort", 1.0, recipe=recipe, model=model) for model in ("lenet5", "resnet8") for recipe in ("a", "b")]
    assert reasons_of(*here, *elsewhere) == [(["lenet5, all 2 cells", "resnet8, all 2 cells"], "trt on cpu")]


def test_a_reason_of_all_cells_of_a_model_stands_once_whatever_the_place():
    broken = [skipped(backend, recipe, "no such file") for backend in ("trt", "ort") for recipe in ("a", "b")]
    assert reasons_of(*broken, on("ort", 1.0, model="resnet8")) == [(["lenet5, all 4 cells"], "")]


def test_models_that_fail_for_reasons_of_their_own_are_troubles_of_their_own():
    broken = [skipped("ort", recipe, f"no {model}", model=model) for model in ("x", "y") for recipe in ("a", "b")]
    assert reasons_of(*broken) == [(["x, all 2 cells"], ""), (["y, all 2 cells"], "")]
