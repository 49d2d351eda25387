"""The lines a run writes while it goes on."""

from __future__ import annotations

import io

from fake_records import record

from bench.commands.progress import watching
from bench.types import Conditions, Status

CIRCLE = ("the graph has a circle",)


def lines(*records):
    stream = io.StringIO()
    with watching(stream) as watch:
        for number, one in enumerate(records, 1):
            watch.on_cell(one, number, len(records))
        watch.finish()
    return [line.strip() for line in stream.getvalue().splitlines()]


def failed(model: str, recipe: str, reasons=CIRCLE):
    return record(model=model, recipe=recipe, status=Status.FAILED, reasons=reasons)


def test_each_ended_cell_is_a_line():
    assert lines(record(recipe="a"), record(recipe="b", status=Status.SKIPPED, reasons=("no kernel",))) == [
        "ok  lenet5 a ort",
        "skipped  lenet5 b ort: no kernel",
    ]


def test_cells_that_differ_in_batch_or_threads_only_are_told_apart():
    each = [Conditions(), Conditions(threads=2), Conditions(batch=8, threads=4)]
    assert lines(*(record(recipe="a", conditions=one) for one in each)) == [
        "ok  lenet5 a ort",
        "ok  lenet5 a ort, 2 threads",
        "ok  lenet5 a ort, batch 8, 4 threads",
    ]


def test_a_reason_that_cells_of_a_model_share_is_said_once_with_how_many_more():
    assert lines(*(failed("net", name) for name in "abc"), record(recipe="a")) == [
        "failed  net a ort: the graph has a circle",
        "failed  net: 2 more cells for the same reason",
        "ok  lenet5 a ort",
    ]


def test_another_model_and_another_reason_are_said_again():
    found = lines(failed("net", "a"), failed("net", "b"), failed("other", "a"), failed("other", "b", ("no space",)))
    assert found == [
        "failed  net a ort: the graph has a circle",
        "failed  net: 1 more cell for the same reason",
        "failed  other a ort: the graph has a circle",
        "failed  other b ort: no space",
    ]


def test_measured_cells_with_the_same_reason_each_have_their_line():
    untrusted = [record(recipe=name, status=Status.UNTRUSTED, reasons=("too busy",)) for name in "ab"]
    assert len(lines(*untrusted)) == 2


def test_a_name_between_colons_stays_a_name():
    text = "\n".join(lines(failed("nets:two", "a"), failed("nets:two", "b")))
    assert "nets:two: 1 more cell for the same reason" in text
