"""`pressbench energy`: gives the windows of an external meter their joules, from the trace it recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.commands.report import open_existing, write_report
from bench.errors import InvalidInput
from bench.formats.power_trace import read_trace
from bench.records import PENDING, EnergyWindow, Record
from bench.stats.trace import fill_windows
from bench.types import Scalar


def add_trace(
    *,
    file: Path,
    results: Path,
    url: str | None,
    run_id: str | None,
    volts: float | None,
    rate: float | None,
    clock: str,
) -> tuple[Any, Any]:
    """Fills the windows of one run (default: the latest) and writes its report again.

    Raises `InvalidInput` for a file that is not a trace or does not hold the windows, or a run without such windows.
    """
    options: dict[str, Scalar] = {"volts": volts, "rate": rate}
    try:
        trace = read_trace(file.read_bytes(), str(file), options)
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read ({error.strerror})") from error
    with open_existing(results, url) as store:
        runs = store.runs()
        if run_id is None and runs:
            run_id = runs[-1].run_id
        records = store.records(run_id)
        waiting = [window for record in records for window in _windows(record) if window.source == PENDING]
        if not waiting:
            raise InvalidInput(f"run {run_id} has no window of the meter external that waits for a trace")
        try:
            filled = fill_windows(waiting, trace, search=clock == "search")
        except InvalidInput as error:
            raise InvalidInput(f"{file}: {error}") from error
        for record in _put_back(records, filled):
            store.add(record)
        report = write_report(store, [run for run in runs if run.run_id == run_id], results, "--results")
    changed = sum(any(window.source == PENDING for window in _windows(record)) for record in records)
    shift_s = filled[0].notes["shift_s"]
    answer = {"run": run_id, "cells": changed, "windows": len(filled), "shift_s": shift_s, "csv": str(report.csv)}
    return answer, f"{len(filled)} windows of {changed} cells (the clocks differ by {shift_s:.3f} s)\n{report.csv}"


def _windows(record: Record) -> list[EnergyWindow]:
    return [window for launch in record.launches for window in launch.energy]


def _put_back(records: Sequence[Record], filled: Sequence[EnergyWindow]) -> list[Record]:
    """All records, with these windows in the place of those that waited, in order."""
    rest = iter(filled)
    return [
        replace(
            record,
            launches=tuple(
                replace(launch, energy=tuple(next(rest) if w.source == PENDING else w for w in launch.energy))
                for launch in record.launches
            ),
        )
        for record in records
    ]
