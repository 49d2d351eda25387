"""A year of nights of the smoke suite: one that gets a slower layer exits with 1, one that does not with 0.

    python -m tools.perf_stats.year FOLDER

One long run measures the suite; a year of nights is drawn from its launches and goes through the product's own store.
The last two nights are really measured by `pressbench nightly`: one of the same network, one after a layer was inserted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from bench.config.strict_toml import locate
from bench.config.suite import PACKAGE
from bench.records import Launch, Record, Run
from bench.store import Store
from tools.perf_stats.nights import take_block

NETWORK = """from torch import nn

from bench.models.networks.mlperf_tiny import resnet8


def build():
    network = resnet8((1, 8, 8), 10)
    {change}
    return network
"""
SAME = "network.relu = nn.Sequential(nn.ReLU())"
SLOWER = "network.relu = nn.Sequential(nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))"
DRAWN = 363
LAUNCHES = 12


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_suite(folder)
    (folder / "net.py").write_text(NETWORK.format(change=SAME), encoding="utf-8")
    command(folder, "run", "--results", "long", "--launches", str(LAUNCHES), "--no-report")
    with Store.open(folder / "long" / "pressbench.db") as store:
        run, records = store.runs()[-1], store.records()
    (folder / "nights").mkdir(exist_ok=True)
    with Store.open(folder / "nights" / "pressbench.db") as store:
        draw_year(store, run, records)
    for change in (SAME, SLOWER):
        (folder / "net.py").write_text(NETWORK.format(change=change), encoding="utf-8")
        code = command(folder, "nightly", "--results", "nights", "--again", "300", "--markdown", "night.md")
        print(f"exit code {code}\n", flush=True)


def write_suite(folder: Path) -> None:
    """The smoke suite, with the network of net.py in place of ResNet-8."""
    text = locate("suite", "smoke", PACKAGE).read_text(encoding="utf-8")
    own = text.replace('models = ["resnet8"]', 'models = ["net:build"]\ntrain = true')
    (folder / "smoke.toml").write_text(f"{own}time_s = 0.5\n", encoding="utf-8")


def command(folder: Path, name: str, *arguments: str) -> int:
    """`pressbench NAME` in the folder, with this checkout: its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-m", "bench.cli", name, "--suite", "smoke.toml", *arguments]
    print(f"$ pressbench {' '.join(line[3:])}", flush=True)
    return subprocess.run(line, cwd=folder, env=environment, check=False).returncode


def draw_year(store: Store, run: Run, records: Sequence[Record]) -> None:
    """`DRAWN` nights before today, each with neighbouring launches of the long run."""
    random, today = np.random.default_rng(0), datetime.now(UTC)
    for night in range(DRAWN):
        at = (today - timedelta(days=DRAWN - night)).isoformat()
        one = replace(run, run_id=f"drawn-{night:03}", started_at=at, finished_at=at)
        store.begin_run(one)
        for record in records:
            block = take_block(record.launches, int(random.integers(1 << 30))) if record.launches else ()
            launches = tuple(take_part(launch, random) for launch in block)
            store.add(replace(record, run_id=one.run_id, started_at=at, launches=launches))
        store.finish_run(one.run_id, "finished", at)


def take_part(launch: Launch, random: np.random.Generator) -> Launch:
    """Four fifths of its samples, neighbours: `regress` leaves out a night that has the very samples of another."""
    size = len(launch.samples_ns)
    start = int(random.integers(size // 5 + 1))
    part = slice(start, start + size - size // 5)
    return replace(launch, samples_ns=launch.samples_ns[part], waits_ns=launch.waits_ns[part])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
