"""The time lines of a store's series: where they changed, by how much, in which environment, and how they are drawn."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import pytest
from fake_records import run, suite
from nights import figures, history, quiet, stepped
from numpy.random import default_rng

from bench.regress.timeline import SEEN, deviate, trace_history
from bench.report.page import render_page
from bench.report.page.timelines import MOST_PIECES, MOST_SHOWN, draw_timelines
from bench.report.timeline import MOST_MARKS, Timeline


def latency(nights):
    (found,) = (one for one in trace_history(figures(nights)) if one.metric == "latency")
    return found


def test_a_step_is_marked_at_its_night_with_its_size_and_interval():
    found = latency(history(stepped(60, 30, factor=1.05)))
    (change,) = found.changes
    assert abs(change.place - 30) <= 1
    assert "%, worse (+" in change.text
    assert 0.04 < found.size < 0.06
    assert len(found.values) == len(found.at) == 60


def test_a_quiet_series_has_no_mark_and_one_night_is_no_line():
    assert latency(history(quiet(60))).changes == ()
    assert trace_history(figures(history([1.0]))) == []


@pytest.mark.parametrize(("nights", "step"), [(3, 4.0), (10, 2.2), (182, 0.6)])
def test_what_is_not_searched_has_no_step_worth_seeing(nights, step):
    values = default_rng(5).normal(size=365)
    assert deviate(values) < SEEN
    values[100 : 100 + nights] += step
    assert deviate(values) > SEEN
    assert deviate([1.0] * 50 + [2.0] * 20) == float("inf")


def test_a_counted_figure_is_exact_and_another_runtime_is_named():
    nights = history(quiet(12))
    changed = [
        (one, [replace(c, backend_version="2.0", cost=replace(c.cost, macs=50)) for c in cells])
        for one, cells in nights[6:]
    ]
    found = {one.metric: one for one in trace_history(figures([*nights[:6], *changed]))}
    assert found["macs"].changes[0].text.endswith("−50.0 %, better (counted, exact)")
    assert found["macs"].changes[0].place == 6
    assert "2.0" in found["macs"].environment[0].text


def test_the_page_draws_the_largest_change_first_and_counts_the_rest():
    lines = [
        *trace_history(figures(history(quiet(20)))),
        *trace_history(figures(history(stepped(60, 30, factor=1.2), model="<b>&\"'"))),
    ]
    drawn = draw_timelines(lines * 30)
    assert drawn is not None
    assert (len(drawn.pictures), drawn.left) == (MOST_SHOWN, len(lines) * 30 - MOST_SHOWN)
    assert {picture.metric.partition(",")[0] for picture in drawn.pictures} == {"latency"}  # no other ever moved
    assert "<b>" in drawn.pictures[0].cell
    page = render_page(suite()[:3], [run()], lines)
    assert "What changed" in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page[: page.index("<script")]


def test_a_long_series_is_drawn_by_medians_with_a_band():
    values = tuple(1.0 + (place == 500) for place in range(1000))
    at = tuple(f"2026-01-01T00:00:{place}" for place in range(1000))
    drawn = draw_timelines([Timeline(cell="c", metric="latency", unit="ms, host clock", at=at, values=values)])
    assert drawn is not None
    (picture,) = drawn.pictures
    assert len(picture.line.split()) == MOST_PIECES
    assert ",4.0" in picture.band  # the one night at the top is not averaged away
    assert (picture.low, picture.high, picture.nights) == ("1.00 ms", "2.00 ms", 1000)


def unpack(text):
    return json.loads(zlib.decompress(base64.b64decode(text, validate=True)))


def test_every_series_is_in_the_archive_in_the_order_of_the_pictures():
    lines = [
        *trace_history(figures(history(quiet(20), model="</script>"))),
        *trace_history(figures(history(stepped(60, 30)))),
    ]
    drawn = draw_timelines(lines)
    assert drawn is not None
    assert drawn.archive is not None
    index, (block,) = unpack(drawn.archive.index), [unpack(one) for one in drawn.archive.blocks]
    names = [(index["cells"][cell], index["metrics"][metric]) for cell, metric, _ in index["series"]]
    assert sorted(names) == sorted((one.cell, one.label) for one in lines)
    assert names[: len(drawn.pictures)] == [(one.cell, one.metric) for one in drawn.pictures]
    assert [rank for _, _, rank in index["series"]] == [1] + [0] * (len(lines) - 1)
    for name, series in zip(names, block["series"], strict=True):
        (line,) = (one for one in lines if (one.cell, one.label) == name)
        step = (series["high"] - series["low"]) / index["steps"]
        values = [series["low"] + step * place for place in series["v"]] or [series["low"]] * len(line.values)
        assert values == pytest.approx(line.values, abs=0.51 * step)
        assert block["nights"][series["n"]] == [at[:10] for at in line.at]
    page = render_page(suite()[:3], [run()], lines)
    assert page.count("</script>") == page.count("<script") == 5 + 2  # facts, plots, Plotly, page, series; index, block


def test_an_alarm_comes_first_and_a_store_whose_series_all_stand_drawn_has_no_archive():
    lines = trace_history(figures(history(stepped(60, 30))))
    moved = [one for one in lines if one.changes]
    alarmed = replace(
        moved[0], cell="quiet", values=(1.0, 1.0), at=("1", "2"), changes=(), size=0.0, alarm="missing: x"
    )
    drawn = draw_timelines([*moved, alarmed])
    assert drawn is not None
    assert [one.alarm for one in drawn.pictures] == ["missing: x", ""]
    assert (drawn.alarms, drawn.left, drawn.archive) == (1, 0, None)


def test_an_environment_that_changes_every_night_leaves_12_marks_and_a_count():
    nights = [
        (one, [replace(cell, backend_version=str(number)) for cell in cells])
        for number, (one, cells) in enumerate(history(quiet(30)))
    ]
    found = latency(nights)
    assert len(found.environment) == MOST_MARKS
    assert (found.environment[-1].place, found.hidden_marks) == (29, 29 - MOST_MARKS)


def test_without_a_history_the_page_has_no_such_section():
    assert draw_timelines([]) is None
    assert 'id="changes"' not in render_page(suite()[:3], [run()])
