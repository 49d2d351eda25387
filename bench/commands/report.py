"""`pressbench report`: writes cells.csv and dashboard.html from stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from bench.errors import InvalidInput
from bench.paths import database, replaced, written
from bench.records import Record, Run
from bench.regress.figures import read_figures
from bench.regress.judge import MOST
from bench.regress.series import pick_newest
from bench.regress.timeline import trace_history
from bench.report.fleet import FleetView
from bench.report.page import write_dashboard
from bench.report.parquet import write_parquet
from bench.report.table import write_csv
from bench.report.timeline import Timeline
from bench.store import Leases, Store, find_absent_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The files that were written, and how many cells they show."""

    csv: Path
    dashboard: Path
    cells: int


def report_stored(
    *, results: Path, url: str | None, out: Path | None, run_id: str | None, parquet: Path | None = None
) -> Report:
    """The report of one run (default: the latest) or of "all", in `out` or else in `results`; the rows in `parquet` too.

    Raises `InvalidInput` without a stored run of that name, `Unavailable` if the files cannot be written.
    """
    with open_existing(results, url) as store:
        runs = store.runs()
        if not runs:
            raise InvalidInput(f"{results}: no run is stored yet; `pressbench run --target cpu` makes one")
        if run_id not in (None, "all") and run_id not in {run.run_id for run in runs}:
            raise InvalidInput(f"{results}: no run {run_id!r} (latest: {runs[-1].run_id})")
        chosen = [run for run in runs if run_id == "all" or run.run_id == (run_id or runs[-1].run_id)]
        if parquet is not None:
            with written(parquet, "--parquet"):
                write_parquet([record for run in chosen for record in store.records(run.run_id)], parquet)
        timelines = trace_store(store, [run for run in runs if run.target == chosen[-1].target])
        return write_report(store, chosen, out or results, "--out" if out else "--results", timelines)


def trace_store(store: Store, runs: Sequence[Run], alarms: Mapping[str, str] = MappingProxyType({})) -> list[Timeline]:
    """The series of the newest `MOST` nights of each suite, read one at a time; none of a single run. `alarms`: as
    `trace_history` takes them."""
    newest = pick_newest(runs, MOST)
    return trace_history(read_figures(store, newest), alarms) if len(newest) > 1 else []


def write_report(
    store: Store, runs: Sequence[Run], folder: Path, option: str, timelines: Sequence[Timeline] = ()
) -> Report:
    """Reads the records of runs and writes both files, as `write_files`. Raises as the store does, too."""
    records = [record for run in runs for record in store.records(run.run_id)]
    return write_files(records, runs, folder, option, timelines, look_at_fleet(store, runs))


def write_files(
    records: Sequence[Record],
    runs: Sequence[Run],
    folder: Path,
    option: str,
    timelines: Sequence[Timeline],
    fleet: FleetView | None,
) -> Report:
    """Writes both files, each in place of what was there once it is whole. `option` names the folder in the `Unavailable` of a disk that refuses."""
    report = Report(csv=folder / "cells.csv", dashboard=folder / "dashboard.html", cells=len(records))
    with written(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(report.csv) as file:
            write_csv(records, file)
        with replaced(report.dashboard) as file:
            write_dashboard(records, runs, file, timelines, fleet)
    return report


def look_at_fleet(store: Store, runs: Sequence[Run]) -> FleetView | None:
    """The boards that the store knows, and the runs that go on; None where none of these runs was on a fleet."""
    if not any(run.request.get("fleet") for run in runs):
        return None
    leases = Leases(store=store)
    at = datetime.fromtimestamp(leases.clock(), UTC).strftime("%Y-%m-%d %H:%M")
    return FleetView(boards=leases.boards(), queue=leases.queue(), at=at)


def open_existing(results: Path, url: str | None) -> Store:
    """The store of a results folder or URL. Raises `InvalidInput` if there is none: it is not created."""
    if url and (absent := find_absent_file(url)):
        raise InvalidInput(f"--database: {absent} does not exist; `pressbench run --database ...` makes it")
    if not url and not (results / "pressbench.db").exists():
        raise InvalidInput(
            f"{results}: no pressbench.db in this folder; `pressbench run --results {results}` makes one"
        )
    return Store.open(database(results, url))
