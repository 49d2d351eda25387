"""What a report says of a file's outputs: in the summary, in cells.csv and on the page."""

from __future__ import annotations

import pytest
from fake_records import record, run

from bench.records import OutputQuality, Quality
from bench.report.cells import make_cells
from bench.report.page import render_page
from bench.report.page.outputs import list_outputs
from bench.report.summary import show_quality
from bench.report.table import compute_rows

NEAR = OutputQuality(name="y", rows=16, compared=16, max_abs_err=0.3, relative_rms=0.021, agreement=0.94)
FAR = OutputQuality(name="boxes", rows=16, compared=16, max_abs_err=7.0, relative_rms=0.85)
NOISY = OutputQuality(name="y", rows=16, compared=16, max_abs_err=4.7, relative_rms=1.1, own_spread=1.0)
SHIFTED = OutputQuality(name="dets", rows=16, compared=2, varying=True, max_abs_err=220.0, relative_rms=0.6)


def judged(*outputs, **quality):
    return record(quality=Quality(samples=16, outputs=outputs, **quality))


@pytest.mark.parametrize(
    ("quality", "outputs", "shown"),
    [
        ({"accuracy": 0.9821, "top1_agreement": 0.94}, [NEAR], "98.21 %"),
        ({"top1_agreement": 0.94}, [NEAR], "agrees 94\u00a0%"),
        ({}, [FAR], "error 0.85"),
        ({}, [NOISY], "–"),
        ({}, [SHIFTED], "–"),
        ({}, [], "–"),
    ],
)
def test_the_summary_shows_the_accuracy_or_how_near_the_outputs_are(quality, outputs, shown):
    (row,) = compute_rows([judged(*outputs, **quality)])
    assert show_quality(row) == shown


def test_the_relative_error_of_a_cell_is_that_of_its_worst_output_that_counts():
    (row,) = compute_rows([judged(NEAR, FAR, NOISY, SHIFTED)])
    assert row["output_relative_rms"] == 0.85


def test_the_page_lists_every_output_with_what_holds_for_its_figures():
    cells = make_cells([judged(NEAR, FAR), judged(NOISY, SHIFTED), record()])
    rows = list_outputs(cells)
    assert [row.output for row in rows] == ["y", "boxes", "y", "dets"]
    assert (rows[0].largest, rows[0].relative, rows[0].agreement, rows[0].note) == ("0.300", "0.0210", "94.00 %", "–")
    assert rows[2].note == "two runs of the baseline differ by 1.00"
    assert rows[3].note == "compared on 2 of 16"


def test_an_output_that_was_not_compared_has_no_row_and_an_unnamed_one_its_place():
    alone = OutputQuality(name="y", rows=16)
    unnamed = OutputQuality(name="", rows=16, compared=16, max_abs_err=0.0, relative_rms=0.0, redeemed=True)
    (row,) = list_outputs(make_cells([judged(alone, unnamed)]))
    assert (row.output, row.note) == ("number 1", "judged by its accuracy")


def test_the_page_has_the_section_only_where_outputs_were_compared():
    assert "<h2>Outputs</h2>" in render_page([judged(NEAR)], [run()])
    assert "<h2>Outputs</h2>" not in render_page([record()], [run()])
    hostile = OutputQuality(name="<b>y</b>", rows=1, compared=1, max_abs_err=0.0, relative_rms=0.0)
    assert "<b>y</b>" not in render_page([judged(hostile)], [run()])
