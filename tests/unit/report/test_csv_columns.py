"""Laws of the columns of cells.csv: what is declared is what rows hold, and what docs/columns.md says."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from fake_records import energy, launches, record, suite
from numpy.random import default_rng
from old_store import GOLDEN, unpack_old_store

from bench.records import ColdStart, EndToEnd, OutputQuality, Quality, Score, SustainedWindow
from bench.report.columns import CSV_COLUMNS
from bench.report.table import compute_rows
from bench.store import Store
from bench.types import Clock, Simulation, Status
from tools.columns import PAGE, write_page

TYPES = {"text": (str,), "integer": (int,), "number": (float,)}
SUFFIXES = {"_ms": "ms", "_bytes": "bytes", "_pp": "percentage points", "_mj": "mJ", "_w": "W", "_per_s": "inputs/s"}
SCORED = Score(name="RMSE", value=1.5, unit="points", higher_is_better=False, without=(1.4, 1.6))
NEW = {"weights_from", "inputs", "calibration"}
"""Columns that version 0.1.0 did not have."""
LONG = tuple(
    SustainedWindow(start_s=float(second), seconds=1.0, inferences=9, p50_ns=5, p90_ns=6, p99_ns=7)
    for second in range(9)
)
ROUNDS = EndToEnd(before_ns=(5, 5), infer_ns=(10, 10), after_ns=(5, 5))
COLD = ColdStart(start_ms=90.0, runtime_ms=50.0, first_ms=3.0)
COUNTS = ("cycles", "initiation_interval", "lut", "ff", "dsp", "bram", "instructions", "memory_accesses")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of every kind of cell: measured, failed, simulated, metered, and of a real database."""
    metered = record(
        budget={"energy_mj": 1.0},
        launches=tuple(
            replace(one, energy=energy(2.0), cold=COLD, sustained=LONG, end_to_end=ROUNDS)
            for one in launches(default_rng(0), 1.0)
        ),
    )
    compared = OutputQuality(name="y", rows=9, compared=9, max_abs_err=0.1, relative_rms=0.05, agreement=0.9)
    judged = record(
        quality=Quality(
            samples=9,
            accuracy=0.5,
            shifted={"blur": 0.5},
            output_max_abs_err=0.1,
            top1_agreement=0.9,
            outputs=(compared,),
        )
    )
    scored = record(quality=Quality(samples=9, labelled=9, score=SCORED))
    counts = Simulation(
        source="all", latency_ms=1.0, memory_bytes=9, notes={"sources": {"lut": "yosys"}}, **dict.fromkeys(COUNTS, 7)
    )
    simulated = record(clock=Clock.SIMULATED, simulation=counts)
    failed = record(status=Status.FAILED, data="", device="", backend_version="", missing={})
    with Store.open(unpack_old_store(tmp_path_factory.mktemp("old"))) as store:
        real = store.records()
    return compute_rows([*suite(), metered, judged, scored, simulated, failed, *real])


@pytest.mark.parametrize("column", CSV_COLUMNS, ids=lambda column: column.name)
def test_a_column_has_values_of_its_type_and_is_empty_only_where_it_says_so(column, rows):
    values = [row[column.name] for row in rows]
    filled = [value for value in values if value not in (None, "")]
    assert filled, "no kind of cell fills it"
    assert {type(value) for value in filled} <= set(TYPES[column.kind])
    assert bool(column.empty) == (len(filled) < len(values))


def test_the_unit_is_the_one_that_the_name_ends_with():
    for column in CSV_COLUMNS:
        named = [unit for suffix, unit in SUFFIXES.items() if column.name.endswith(suffix)]
        assert named == [unit for unit in SUFFIXES.values() if unit == column.unit], column.name


def test_a_fraction_is_between_0_and_1(rows):
    for column in CSV_COLUMNS:
        if column.unit == "fraction":
            assert all(0 <= row[column.name] <= 1 for row in rows if row[column.name] is not None), column.name


def test_the_columns_of_an_older_pressbench_are_all_there_in_their_order():
    with (GOLDEN / "cells.csv").open(newline="") as file:
        wrote = next(csv.reader(file))
    assert wrote == [column.name for column in CSV_COLUMNS if column.name in wrote]


def test_the_documented_columns_are_the_declared_ones():
    assert PAGE.read_text(encoding="utf-8") == write_page(), "run python -m tools.columns"


def test_the_page_has_each_column_once_and_in_order():
    described = [line.split("`")[1] for line in write_page().splitlines() if line.startswith("| `")]
    assert described == [column.name for column in CSV_COLUMNS]
