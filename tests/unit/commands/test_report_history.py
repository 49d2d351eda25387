"""`pressbench report` on histories that are odd: gaps, doubled nights, changed units, clocks that went back, hostile names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nights import cell, fill, history, night, quiet
from sqlalchemy import text

from bench.commands.report import report_stored, trace_store
from bench.errors import InvalidInput
from bench.records import Launch, Quality
from bench.store import Store
from bench.types import Clock, Status

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def report(tmp_path):
    """Stores nights, writes the report; the page and the time lines by metric and unit."""

    def run(nights):
        with Store.open(tmp_path / "pressbench.db") as store:
            fill(store, nights)
            lines = trace_store(store, store.runs())
        report_stored(results=tmp_path, url=None, out=None, run_id=None)
        page = (tmp_path / "dashboard.html").read_text()
        return page, {(line.metric, line.unit): line for line in lines}

    return run


def test_gaps_and_doubled_nights_and_figures_that_are_none_leave_a_line_of_the_others(report):
    nights = history([*quiet(20), None, None, *quiet(20, seed=1)])
    nights = [(night(number), cells) for number, (_, cells) in enumerate(nights)]
    doubled = replace(nights[5][0], run_id="again", started_at=night(60).started_at)
    odd = [replace(cell(night(7), 1.0), quality=Quality(samples=9, accuracy=float("nan")))]
    page, lines = report([*nights[:7], (nights[7][0], odd), *nights[8:], (doubled, nights[5][1])])
    assert 'id="changes"' in page
    assert len(lines["latency", "ms, host clock"].values) == 40
    assert ("accuracy", "fraction") not in lines
    assert "NaN" not in page[page.index('id="facts"') : page.index("</script>", page.index('id="facts"'))]


def by_device(launch: Launch) -> Launch:
    """The same launch, by the device's own clock."""
    return replace(launch, device_ns=launch.samples_ns)


def test_another_clock_is_another_line_and_a_clock_that_went_back_only_another_order(report):
    other = [
        (
            night(5 + n),
            [replace(one, clock=Clock.DEVICE, launches=tuple(map(by_device, one.launches))) for one in cells],
        )
        for n, (_, cells) in enumerate(history(quiet(5, seed=2)))
    ]
    back = replace(night(2), run_id="back", finished_at=night(1).started_at)
    _, lines = report([*history(quiet(5)), *other, (back, [cell(back, 1.5)])])
    assert len(lines["latency", "ms, device clock"].values) == 5
    assert lines["latency", "ms, host clock"].values[2] == pytest.approx(1.5, rel=1e-3)


def test_hostile_names_are_text_in_the_page_and_in_its_archive(report):
    page, lines = report(history(quiet(8), model=HOSTILE, recipe=HOSTILE, backend=HOSTILE))
    assert any(HOSTILE in line.cell for line in lines.values())
    assert "<script>alert" not in page
    assert "<img" not in page[: page.index('id="facts"')]


@pytest.mark.parametrize(
    "nights",
    [
        [],
        [(night(0), [])],
        [(night(0), []), (night(1), [])],
        [(one, [cell(one, None, status=Status.FAILED)]) for one in map(night, range(2))],
        history([1.0]),
    ],
)
def test_0_or_1_points_are_no_history(report, nights):
    if not nights:
        with pytest.raises(InvalidInput, match="no run is stored yet"):
            report(nights)
        return
    page, lines = report(nights)
    assert lines == {}
    assert 'id="changes"' not in page


def test_a_store_of_a_newer_version_is_refused_and_its_page_left_alone(report, tmp_path):
    page, _ = report(history(quiet(3)))
    with Store.open(tmp_path / "pressbench.db") as store, store.engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    with pytest.raises(InvalidInput, match="schema version 99"):
        report_stored(results=tmp_path, url=None, out=None, run_id=None)
    assert (tmp_path / "dashboard.html").read_text() == page
