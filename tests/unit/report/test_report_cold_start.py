"""The columns of a cold start."""

from __future__ import annotations

from fake_records import record

from bench.records import ColdStart, Launch
from bench.report.cells import make_cells
from bench.report.page.cell_table import make_table
from bench.report.table import compute_row

PARTS = ("process_start_ms", "runtime_load_ms", "load_ms", "first_inference_ms")


def launch(load_ms: float, cold: ColdStart | None) -> Launch:
    return Launch(samples_ns=(1000,) * 9, load_ms=load_ms, cold=cold)


def row(*launches: Launch):
    return compute_row(record(launches=launches), None)


def test_a_cold_start_is_the_median_of_the_sums_of_each_launch():
    found = row(
        launch(1.0, ColdStart(start_ms=100.0, runtime_ms=50.0, first_ms=3.0)),
        launch(9.0, ColdStart(start_ms=80.0, runtime_ms=60.0, first_ms=2.0)),
        launch(4.0, ColdStart(start_ms=90.0, runtime_ms=55.0, first_ms=8.0)),
    )
    assert found["cold_start_ms"] == 154.0
    assert [found[name] for name in PARTS] == [90.0, 55.0, 4.0, 3.0]


def test_where_the_kernel_does_not_say_when_a_process_began_there_is_no_sum():
    found = row(launch(4.0, ColdStart(start_ms=None, runtime_ms=55.0, first_ms=8.0)))
    assert found["cold_start_ms"] is None
    assert [found[name] for name in PARTS] == [None, 55.0, 4.0, 8.0]


def test_a_launch_of_an_older_version_has_only_the_time_to_load():
    found = row(launch(4.0, None))
    assert [found[name] for name in PARTS] == [None, None, 4.0, None]


def test_the_page_shows_the_cold_start():
    cells = make_cells([record(launches=(launch(1.0, ColdStart(start_ms=100.0, runtime_ms=50.0, first_ms=3.0)),))])
    table = make_table(cells)
    shown = {column.name: field.text for column, field in zip(table.columns, table.rows[0].fields, strict=True)}
    assert shown["cold_start_ms"] == "154"
    assert shown["first_inference_ms"] == "3.00"
