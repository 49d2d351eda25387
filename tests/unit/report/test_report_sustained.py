"""The settled figure of a sustained run, its columns and its plots."""

from __future__ import annotations

import pytest
from fake_records import record

from bench.records import Launch, SustainedWindow
from bench.report.cells import make_cells
from bench.report.charts.legend import make_legend
from bench.report.charts.sustained import draw_sustained
from bench.report.page.render import render_page
from bench.report.table import compute_row
from bench.stats.sustained import settle


def windows(*medians_ms: float, **more: float) -> tuple[SustainedWindow, ...]:
    return tuple(
        SustainedWindow(
            start_s=float(second),
            seconds=1.0,
            inferences=100,
            p50_ns=int(ms * 1e6),
            p90_ns=int(ms * 1.1e6),
            p99_ns=int(ms * 1.2e6),
            **more,
        )
        for second, ms in enumerate(medians_ms)
    )


def cell(*medians_ms: float, **more: float):
    return record(
        launches=(
            Launch(samples_ns=(10**7,) * 9),
            Launch(sustained=windows(*medians_ms, **more), samples_ns=(10**7,) * 9),
        )
    )


def test_the_settled_figure_is_that_of_the_last_third_and_stands_beside_the_first_second():
    row = compute_row(cell(10, 10, 12, 15, 19.5, 20, 20, 20, 20), None)
    assert (row["sustained_first_ms"], row["sustained_p50_ms"], row["sustained_slowdown"]) == (10.0, 20.0, 2.0)
    assert row["settled_after_s"] == 4.0


def test_one_disturbed_window_does_not_end_the_settled_part():
    found = settle(windows(10, 10, 10, 14, 10, 10, 10, 10, 10))
    assert found is not None
    assert (found.settled_ms, found.after_s) == (10.0, 0.0)


def test_a_run_that_still_changes_has_no_settled_figure_and_the_page_says_why():
    changing = cell(10, 11, 12, 13, 14, 15, 16, 17, 18)
    row = compute_row(changing, None)
    assert row["sustained_first_ms"] == 10.0
    assert [row[name] for name in ("sustained_p50_ms", "sustained_slowdown", "settled_after_s")] == [None] * 3
    assert "still changed by +12.5%" in make_cells([changing])[0].missing["sustained_p50_ms"]


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_windows_settle_nothing(count):
    found = settle(windows(*[10.0] * count))
    assert found is not None
    assert found.settled_ms is None
    assert "raise sustain_s" in found.reason


def test_a_cell_without_a_sustained_run_has_none_of_it():
    assert settle(()) is None
    cells = make_cells([record()])
    assert draw_sustained(cells, make_legend(cells)) == []
    assert cells[0].figure("sustained_first_ms") is None


def test_latency_and_heat_are_drawn_over_the_seconds():
    cells = make_cells([cell(10, 12, 12, hottest_c=50.0)])
    figures = draw_sustained(cells, make_legend(cells))
    assert [figure.data[0]["y"] for figure in figures] == [[10.0, 12.0, 12.0], [50.0, 50.0, 50.0]]
    assert figures[0].data[0]["x"] == [0.5, 1.5, 2.5]
    assert "p99 12 ms" in figures[0].data[0]["text"][0]
    assert "Sustained inference" in render_page([cells[0].record], [])
