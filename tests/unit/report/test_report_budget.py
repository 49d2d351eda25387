"""Budgets: each limit against its own column, and what the advice says of those that fit."""

from __future__ import annotations

import pytest
from fake_records import on

from bench.config.target import Budget
from bench.records import Quality
from bench.report.advice import advise
from bench.report.budget import MEASURED_BY, judge_budget
from bench.report.columns import COLUMN_OF
from bench.report.page.render import render_page
from bench.report.table import compute_rows

ROW = {
    "latency_p50_ms": 5.0,
    "latency_p99_ms": None,
    "memory_peak_bytes": 3_000_000,
    "energy_per_inference_mj": 2.0,
    "file_bytes": 144_000,
    "accuracy_drop_pp": -0.2,
}


def test_every_budget_limits_a_column_that_exists():
    limits = Budget(**dict.fromkeys(MEASURED_BY, 1.0)).limits()
    assert set(limits) == set(MEASURED_BY)
    assert {column for column, _ in MEASURED_BY.values()} <= set(COLUMN_OF)


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({}, None),
        ({"latency_p50_ms": 5.0, "memory_mb": 3.0, "file_kb": 144, "accuracy_drop_pp": 1.0}, "pass"),
        ({"latency_p50_ms": 4.0, "file_kb": 100}, "fail: latency_p50_ms 5 of 4, file_kb 144 of 100"),
        ({"latency_p99_ms": 9.0, "energy_mj": 9.0}, "unknown: no figure for latency_p99_ms"),
        ({"latency_p99_ms": 9.0, "energy_mj": 1.0}, "fail: energy_mj 2 of 1"),
    ],
)
def test_a_budget_is_kept_broken_or_unknown(limits, verdict):
    assert judge_budget(limits, ROW) == verdict


def cells(**limits):
    quality = Quality(samples=100, accuracy=0.9, reference_accuracy=0.9)
    slow = on("ort", 4.0, recipe="baseline", key="b", baseline_key="b", quality=quality, budget=limits)
    fast = on("ort", 1.0, recipe="int8", key="i", baseline_key="b", quality=quality, budget=limits)
    return [slow, fast]


def test_the_advice_names_the_recipes_that_fit_and_says_where_none_does():
    (line,) = advise(cells(latency_p50_ms=2.0))
    assert line.endswith("Within every budget: int8 on ort.")
    (line,) = advise(cells(latency_p50_ms=0.5))
    assert "is over its budget (latency_p50_ms" in line
    assert line.endswith("Within every budget: none.")
    assert "budget" not in advise(cells())[0]


def test_a_figure_that_is_missing_does_not_fit():
    (line,) = advise(cells(energy_mj=2.0))
    assert line.endswith("Within every budget: none.")
    assert "unknown: no figure for energy_mj" in {row["budget"] for row in compute_rows(cells(energy_mj=2.0))}


def test_the_page_marks_each_cell():
    page = render_page(cells(latency_p50_ms=2.0), [])
    assert page.count("budget: pass") == 1
    assert page.count("budget: fail") == 1
