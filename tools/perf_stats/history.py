"""A million rows of history: how long `pressbench report` takes, how large its page is and how soon it opens.

    python -m tools.perf_stats.history FOLDER

Makes `NIGHTS` nights of `SUITES` suites on one target; a folder that has some gets the others. To make them in minutes, a
cell has one launch of 9 samples. Chromium opens the page, where /usr/bin/chromium is.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from bench.records import Launch, Record, Run
from bench.store import Store
from tests.fake_records import run, suite
from tests.nights import fill

NIGHTS, SUITES, CELLS = 365, 10, 274
STEPPED = 100
"""One cell in so many is 5 % slower from the middle on."""
SCATTER = 0.01
CHROMIUM = Path("/usr/bin/chromium")
FIRST = datetime(2025, 1, 1, 2, tzinfo=UTC)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Store.open(folder / "pressbench.db") as store:
        known = {one.run_id for one in store.runs()}
        cells = make_cells()
        for night in range(NIGHTS):
            for number in range(SUITES):
                if f"{number}-{night:03}" not in known:
                    fill(store, [make_night(cells, number, night)])
    for line in (*report(folder), *open_page(folder)):
        print(line, flush=True)


def make_cells() -> list[Record]:
    """The cells of a suite: those of the tests that were measured, under other names of models."""
    measured = [
        replace(one, profile=(), pairs=(), launches=(replace(launch, samples_ns=launch.samples_ns[:9], waits_ns=()),))
        for one in suite()
        for launch in one.launches[:1]
    ]
    return [
        replace(one, model=f"{one.model}-{copy}", key=f"{one.key}{copy}", baseline_key=f"{one.baseline_key}{copy}")
        for copy in range(CELLS // len(measured) + 1)
        for one in measured
    ][:CELLS]


def make_night(cells: list[Record], number: int, night: int) -> tuple[Run, list[Record]]:
    """One run of one suite: each cell a little slower or faster than its first night."""
    at = (FIRST + timedelta(days=night, minutes=30 * number)).isoformat()
    one = run(
        f"{number}-{night:03}", started_at=at, finished_at=at, suite=f"suite-{number}", revision=f"r{night // 30}"
    )
    random = np.random.default_rng([number, night])
    records = []
    for place, cell in enumerate(cells):
        factor = float(np.exp(random.normal(0, SCATTER)))
        factor *= 1.05 if (place + number) % STEPPED == 0 and night >= NIGHTS // 2 else 1
        launches = tuple(slow_down(launch, factor, int(random.integers(-64, 64))) for launch in cell.launches)
        model = f"{cell.model}-{number}"
        records.append(replace(cell, run_id=one.run_id, model=model, started_at=at, launches=launches))
    return one, records


def slow_down(launch: Launch, factor: float, pages: int) -> Launch:
    """The launch with `factor` times as long samples, and a peak of memory that is so many pages of 4 KiB higher."""
    samples = tuple((np.array(launch.samples_ns) * factor).astype(int).tolist())
    memory = tuple(
        replace(phase, peak_bytes=phase.peak_bytes + 4096 * pages * (phase.name == "steady")) for phase in launch.memory
    )
    return replace(launch, samples_ns=samples, memory=memory)


def report(folder: Path) -> Iterator[str]:
    """`pressbench report`, twice: the second time nothing is left to be read from records."""
    rows = NIGHTS * SUITES * CELLS
    size = (folder / "pressbench.db").stat().st_size / 2**30
    yield f"{rows:,} rows, {size:.1f} GiB"
    for what in ("first report", "next report"):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, perf_counter()
        line = [sys.executable, "-m", "bench.cli", "report", "--results", str(folder)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        wall, used = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        yield (
            f"{what}: {wall:.1f} s, {used.ru_utime - before:.1f} s of processor time; "
            f"largest process so far {used.ru_maxrss / 2**20:.1f} GiB"
        )
    page = folder / "dashboard.html"
    yield f"page: {page.stat().st_size / 2**20:.1f} MiB"


def open_page(folder: Path) -> Iterator[str]:
    """Seconds until the page can be used, until all of its plots are drawn, and until a series is drawn that was found."""
    if not CHROMIUM.exists():
        yield f"{CHROMIUM} is absent: the page was not opened"
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        start, used = perf_counter(), process_time()
        page.goto((folder / "dashboard.html").as_uri(), wait_until="load")
        loaded = perf_counter() - start
        page.wait_for_selector("#series[data-ready]")
        ready = perf_counter() - start
        page.wait_for_selector("body[data-drawn]")
        drawn = perf_counter() - start
        yield f"opens in {loaded:.2f} s, series can be found after {ready:.2f} s, all plots are drawn after {drawn:.2f} s"
        before = perf_counter()
        page.fill("#series [name=words]", f"-{SUITES - 1} memory")
        page.locator("#series .found button").last.click()
        page.wait_for_selector("#series .chosen svg")
        yield f"a series is found and drawn in {perf_counter() - before:.2f} s (this process used {process_time() - used:.1f} s)"
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
