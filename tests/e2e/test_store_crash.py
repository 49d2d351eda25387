"""A store under kill -9 and under two writers, with real processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store import Store

TESTS = Path(__file__).parent.parent
WRITER = """
import sys
sys.path.insert(0, sys.argv[4])
from fake_records import launches, record, run
from bench.store import Store
import numpy as np
store, run_id, count = Store.open(sys.argv[1]), sys.argv[2], int(sys.argv[3])
samples = launches(np.random.default_rng(0), 1.0)
store.begin_run(run(run_id, status="running", finished_at=""))
for index in range(count):
    store.add(record(run_id, key=f"{index:05}", launches=samples))
    print(f"{index:05}", flush=True)
store.finish_run(run_id, "finished", "2026-11-22T11:00:00+00:00")
"""


def writer(path: Path, run_id: str, count: int) -> subprocess.Popen[str]:
    """A process that stores cells and names each on its standard output once it is stored."""
    command = [sys.executable, "-c", WRITER, str(path), run_id, str(count), str(TESTS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_at_any_moment_loses_at_most_the_record_in_flight(tmp_path):
    path, chance = tmp_path / "pressbench.db", random.Random(5)
    for number in range(10):
        run_id = f"run-{number}"
        with writer(path, run_id, 100_000) as child:
            assert child.stdout is not None
            head = child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.08))
            child.send_signal(signal.SIGKILL)
            named = [line.strip() for line in [head, *child.stdout] if line.endswith("\n")]
        with Store.open(path) as store:
            kept = sorted(store.done_keys(run_id))
            assert kept[: len(named)] == named
            assert len(kept) - len(named) <= 1
            assert [record.key for record in store.records(run_id)] == kept
            found = store.last_interrupted("cpu", "default")
            assert found is not None
    with Store.open(path) as store:
        assert {run.status for run in store.runs()} == {"interrupted"}
        assert len(store.runs()) == 10


def test_a_run_killed_is_told_from_one_that_is_still_going_on(tmp_path):
    path = tmp_path / "pressbench.db"
    with writer(path, "killed", 100_000) as killed, writer(path, "living", 100_000) as living:
        assert killed.stdout is not None
        assert living.stdout is not None
        killed.stdout.readline()
        living.stdout.readline()
        killed.kill()
        killed.wait()
        with Store.open(path) as store:
            status = {run.run_id: run.status for run in store.runs()}
            found = store.last_interrupted("cpu", "default")
        living.kill()
    assert status == {"killed": "interrupted", "living": "running"}
    assert found is not None
    assert found.run_id == "killed"


@pytest.mark.parametrize("count", [40])
def test_two_runs_at_once_both_store_everything(tmp_path, count):
    path = tmp_path / "pressbench.db"
    children = [writer(path, run_id, count) for run_id in ("left", "right")]
    outputs = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    with Store.open(path) as store:
        assert [run.status for run in store.runs()] == ["finished", "finished"]
        for run_id, named in zip(("left", "right"), outputs, strict=True):
            assert [record.key for record in store.records(run_id)] == named == [f"{i:05}" for i in range(count)]
