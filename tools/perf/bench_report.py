"""What the statistics promise, and what storing and showing a run costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.records import PairLaunch, Record
from bench.regress.points import Point, Points
from bench.regress.series import Series, SeriesKey
from bench.regress.timeline import trace_series
from bench.report.page import write_dashboard
from bench.stats import ratio
from bench.store import Store
from tests.fake_records import run, suite

ROUNDS = 1000
NIGHTS = 365
SERIES = 2740
STEPPED = 100
"""One series in so many has a step of 5 % in its middle."""


def main() -> Iterator[str]:
    yield from verdicts()
    with tempfile.TemporaryDirectory() as folder:
        yield from storing(Path(folder))
        yield from showing(Path(folder))
        yield from history(Path(folder))


def verdicts() -> Iterator[str]:
    """Simulated comparisons with the noise of a shared 2-core machine: 0.8 % between launches, 2 % between blocks."""
    for launches in (6, 12, 20):
        for truth in (1.0, 1.02):
            found = [ratio(pairs(np.random.default_rng(seed), truth, launches)) for seed in range(ROUNDS)]
            covered = np.mean([f.low is not None and f.high is not None and f.low <= truth <= f.high for f in found])
            width = np.median([(f.high or 0) - (f.low or 0) for f in found]) / 2
            share = {v: np.mean([f.verdict == v for f in found]) for v in ("same", "slower", "faster", "inconclusive")}
            told = ", ".join(f"{verdict} {part:.1%}" for verdict, part in share.items() if part)
            yield f"{launches} launches, truth {truth}: interval holds it {covered:.1%}, +-{width:.2%}; {told}"


def pairs(random: np.random.Generator, truth: float, launches: int) -> list[PairLaunch]:
    shifts = truth * np.exp(random.normal(0, 0.008, launches))
    blocks = [5e6 * np.exp(random.normal(0, 0.02, (20, 4))) * [1, shift, shift, 1] for shift in shifts]
    return [PairLaunch(blocks_ns=tuple(tuple(row) for row in rows.tolist())) for rows in blocks]


def storing(folder: Path) -> Iterator[str]:
    cells = suite()
    with Store.open(folder / "pressbench.db") as store:
        store.begin_run(run())
        start = perf_counter()
        for cell in cells:
            store.add(cell)
        added = perf_counter()
        read = store.records()
        done = perf_counter()
    assert read == cells
    size = sum(path.stat().st_size for path in folder.glob("pressbench.db*")) / len(cells)
    yield f"store: {(added - start) / len(cells) * 1e3:.1f} ms to add a cell (durable), {size / 1024:.0f} KiB each"
    yield f"store: {(done - added) / len(cells) * 1e3:.1f} ms to read one back"


def showing(folder: Path) -> Iterator[str]:
    for copies in (1, 10):
        cells: list[Record] = [
            replace(
                cell, model=f"{cell.model}-{copy}", key=f"{cell.key}{copy}", baseline_key=f"{cell.baseline_key}{copy}"
            )
            for copy in range(copies)
            for cell in suite()
        ]
        start = perf_counter()
        write_dashboard(cells, [run()], folder / "d.html")
        size = (folder / "d.html").stat().st_size / 2**20
        yield f"dashboard of {len(cells)} cells: {perf_counter() - start:.2f} s, {size:.1f} MiB"


def history(folder: Path) -> Iterator[str]:
    """The page of 1,000,000 points of 2,740 series over 365 nights."""
    series = [make_series(place) for place in range(SERIES)]
    start = perf_counter()
    timelines = trace_series(series)
    traced = perf_counter()
    write_dashboard(suite(), [run()], folder / "d.html", timelines)
    size = (folder / "d.html").stat().st_size / 2**20
    done = perf_counter()
    changed = sum(bool(one.changes) for one in timelines)
    yield f"history: {SERIES * NIGHTS:,} points: {traced - start:.1f} s for change points, {changed} series changed"
    yield f"history: {done - traced:.1f} s to write the page, {size:.1f} MiB"


def make_series(place: int) -> Series:
    """One series with a scatter of 1 %."""
    random = np.random.default_rng(place)
    values = np.exp(random.normal(0, 0.01, NIGHTS)) * np.where(
        np.arange(NIGHTS) < NIGHTS // 2, 1, 1.05 if place % STEPPED == 0 else 1
    )
    key = SeriesKey(
        target="cpu",
        device="",
        backend="ort",
        model=f"m{place}",
        recipe="r",
        data="",
        conditions="b1 t1",
        metric="latency",
        unit="ms",
    )
    points = [
        Point(night=night, run_id=f"r{night}", at=f"2026-01-01T{night:04}", value=value)
        for night, value in enumerate(values.tolist())
    ]
    return Series(key=key, points=Points.of(points))
