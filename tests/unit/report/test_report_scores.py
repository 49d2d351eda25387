"""Scores of other tasks than classification: on the page's plots, and against a budget."""

from __future__ import annotations

import pytest
from fake_records import on

from bench.records import Quality, Score
from bench.report.cells import make_cells
from bench.report.charts.legend import make_legend
from bench.report.charts.scatter import draw_accuracy
from bench.report.page.render import render_page
from bench.report.table import compute_rows
from bench.stats import score_interval


def judged(value: float, *, higher: bool, unit: str = "fraction", name: str = "mIoU") -> Quality:
    score = Score(name=name, unit=unit, higher_is_better=higher, value=value, without=())
    return Quality(samples=50, labelled=50, score=score)


def records(before: float, after: float, *, higher: bool, budget=None, **said):
    limits = budget or {}
    slow = on(
        "ort",
        4.0,
        recipe="baseline",
        key="b",
        baseline_key="b",
        budget=limits,
        quality=judged(before, higher=higher, **said),
    )
    fast = on(
        "ort",
        1.0,
        recipe="int8",
        key="i",
        baseline_key="b",
        budget=limits,
        quality=judged(after, higher=higher, **said),
    )
    return [slow, fast]


def test_a_score_is_drawn_by_its_name_in_its_own_unit():
    cells = make_cells(records(0.8, 0.7, higher=True))
    (figure,) = draw_accuracy(cells, make_legend(cells))
    line, points = figure.data
    assert figure.layout["yaxis"]["title"]["text"] == "mIoU"
    assert points["y"] == [0.8, 0.7]
    assert line["y"] == [0.7, 0.8]
    assert "mIoU 0.700 (drop +0.10)" in points["hovertext"][1]
    low, high = figure.layout["yaxis"]["range"]
    assert 0.6 < low < 0.7 < 0.8 < high < 0.9


def test_the_front_of_a_score_that_should_be_low_leads_downwards():
    cells = make_cells(records(1.5, 1.2, higher=False, unit="minutes", name="error"))
    (figure,) = draw_accuracy(cells, make_legend(cells))
    line, _ = figure.data
    assert figure.layout["yaxis"]["title"]["text"] == "error, minutes (lower is better)"
    assert line["y"] == [1.2]


def test_the_page_heads_its_plot_by_what_it_draws():
    assert "Score against latency" in render_page(records(0.8, 0.7, higher=True), [])
    accurate = [on("ort", 4.0, quality=Quality(samples=50, labelled=50, accuracy=0.9))]
    assert "Accuracy against latency" in render_page(accurate, [])


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({"score_drop": 0.2}, "pass"),
        ({"score_drop": 0.05}, "fail: score_drop 0.1 of 0.05"),
        (
            {"accuracy_drop_pp": 1.0},
            "unknown: no figure for accuracy_drop_pp (the score is mIoU, not accuracy: limit it by score_drop)",
        ),
    ],
)
def test_a_budget_limits_how_much_worse_a_score_gets(limits, verdict):
    _, row = compute_rows(records(0.8, 0.7, higher=True, budget=limits))
    assert row["budget"] == verdict
    _, row = compute_rows(records(0.7, 0.8, higher=False, budget=limits))
    assert row["budget"] == verdict


def test_the_interval_of_a_fraction_ends_at_0_and_1():
    without = (0.99, 1.0, 1.0, 0.98)
    for unit, inside in (("fraction", True), ("points", False)):
        score = Score(name="mIoU", unit=unit, value=0.995, without=without)
        found = score_interval(score, 40)
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0.995 < found.high
        assert (found.high <= 1) == inside
