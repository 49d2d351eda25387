"""`pressbench energy`: the trace of an external meter, read into a run after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.commands.energy import add_trace
from bench.errors import InvalidInput
from bench.paths import database
from bench.records import PENDING, EnergyWindow, Launch, Record, Run
from bench.report.table import compute_rows
from bench.store import Store
from bench.types import Conditions, Status

WINDOW = EnergyWindow(
    meter="external",
    source=PENDING,
    joules=0.0,
    seconds=3.0,
    inferences=100,
    idle_joules=0.0,
    idle_seconds=2.0,
    after_seconds=2.0,
    marks_ns=tuple(round((1_764_300_000 + mark) * 1e9) for mark in (1, 3, 3, 6, 6, 8)),
)
RECORD = Record(
    run_id="r",
    key="a",
    started_at="2026-01-01T00:00:00+00:00",
    target="t",
    device="d",
    backend="ort",
    backend_version="1",
    model="m",
    recipe="baseline",
    recipe_text="",
    conditions=Conditions(),
    status=Status.OK,
    launches=(Launch(samples_ns=(1,), energy=(WINDOW,)),),
)


@pytest.fixture
def results(tmp_path):
    with Store.open(database(tmp_path, None)) as store:
        store.begin_run(Run(run_id="r", started_at=RECORD.started_at, target="t", suite="s"))
        for key in ("a", "b"):
            store.add(replace(RECORD, key=key, launches=() if key == "a" else RECORD.launches))
        store.finish_run("r", "finished", RECORD.started_at)
    return tmp_path


def trace(folder, last=9):
    """1 W, and 3 W from second 3 to 6."""
    rows = [f"{1_764_300_000 + t / 100},{3.0 if 300 <= t < 600 else 1.0}" for t in range(last * 100)]
    path = folder / "trace.csv"
    path.write_text("time (s),power (W)\n" + "\n".join(rows) + "\n")
    return path


def asked(results, file, **others):
    return add_trace(file=file, results=results, url=None, **{"run_id": None, "volts": None, "rate": None, "clock": "same", **others})  # fmt: skip


def test_a_trace_gives_the_stored_windows_their_joules_and_keeps_the_order_of_cells(results):
    answer, text = asked(results, trace(results))
    assert (answer["windows"], answer["cells"]) == (1, 1)
    assert "1 windows" in text
    with Store.open(database(results, None)) as store:
        rows = compute_rows(store.records("r"))
    assert rows[0]["energy_per_inference_mj"] is None
    assert rows[1]["energy_per_inference_mj"] == pytest.approx(1000 * 2 * 3 / 100, rel=0.01)
    assert rows[1]["energy_source"] == "measured:external"
    assert "measured:external" in (results / "cells.csv").read_text()


@pytest.mark.parametrize(("last", "words"), [(5, "trace.csv: the trace holds"), (0, "trace.csv: 0 samples")])
def test_a_trace_that_does_not_fit_changes_nothing(results, last, words):
    with pytest.raises(InvalidInput, match=words):
        asked(results, trace(results, last))
    with Store.open(database(results, None)) as store:
        assert store.records("r")[1].launches == RECORD.launches


def test_a_missing_file_and_a_run_that_waits_for_nothing_say_so(results):
    with pytest.raises(InvalidInput, match="cannot be read"):
        asked(results, results / "none.csv")
    asked(results, trace(results))
    with pytest.raises(InvalidInput, match="waits for a trace"):
        asked(results, trace(results))
