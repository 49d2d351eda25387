"""The plots of heat and clocks."""

from __future__ import annotations

from dataclasses import replace

from fake_records import record

from bench.records import Climate, Launch, PairLaunch
from bench.report.cells import make_cells
from bench.report.charts.heat import draw_heat
from bench.report.charts.legend import make_legend
from bench.report.page.render import render_page

BEGAN_NS = 1_764_300_000 * 10**9


def climates(*celsius: float, **more: object) -> tuple[Climate, ...]:
    return tuple(
        Climate(moment="before timing", at_ns=BEGAN_NS + 10**9 * second, celsius={"cpu": hot, "gpu": 20.0}, **more)
        for second, hot in enumerate(celsius)
    )


def drawn(*climate: Climate):
    cells = make_cells([replace(record(), launches=(Launch(samples_ns=(1000,) * 9, climate=climate),))])
    return draw_heat(cells, make_legend(cells)), cells


def test_the_hottest_zone_is_drawn_over_the_seconds_of_the_run():
    (figure,), _ = drawn(*climates(40.0, 55.0, governors=("performance",)))
    (line,) = figure.data
    assert (line["x"], line["y"]) == ([0.0, 1.0], [40.0, 55.0])
    assert "governor performance" in figure.note


def test_comparisons_are_drawn_after_the_launches():
    first, second = climates(40.0, 55.0)
    pair = PairLaunch(blocks_ns=((1.0,) * 4,), climate=(second,))
    cells = make_cells([replace(record(), launches=(Launch(samples_ns=(1000,) * 9, climate=(first,)),), pairs=(pair,))])
    (figure,) = draw_heat(cells, make_legend(cells))
    assert figure.data[0]["y"] == [40.0, 55.0]


def test_clocks_have_a_plot_of_their_own_and_what_was_not_read_is_said():
    figures, _ = drawn(*climates(40.0, mhz={"cpu": 1500.0}, unread=("vcgencmd refused",)))
    assert [figure.data[0]["y"] for figure in figures] == [[40.0], [1500.0]]
    assert "not read: vcgencmd refused" in figures[0].note


def test_a_device_without_zones_has_no_section():
    assert drawn()[0] == []
    assert drawn(Climate(moment="m", at_ns=1))[0] == []


def test_names_of_a_board_cannot_write_into_the_page():
    _, cells = drawn(*climates(40.0, 41.0, governors=("<script>alert(1)</script>",)))
    page = render_page([cells[0].record], [])
    assert "Heat and clocks" in page
    assert "<script>alert(1)" not in page
