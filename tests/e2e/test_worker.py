"""The worker as a real process: what it says, and how it dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from waiting import is_alive, wait_until

from bench.config.suite import Measure
from bench.device.job import Job, Limits, MeterChoice, Subject
from bench.errors import CellFailed, DiskFull, InvalidInput, Unavailable, Unsupported
from bench.line.measure import Bench, measure_artifact, pair_launch
from bench.reach.local import Local
from bench.types import Artifact, Conditions

FAKES = Path(__file__).parent.parent / "fakes"


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=os.pathsep)


def artifact(folder: Path, name: str = "model", **told) -> Artifact:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"gain": 2.0, **told}))
    return Artifact(path=path, format="json", digest=name)


def bench(reach: Local | None = None, **changes) -> Bench:
    measure = Measure(launches=1, pairs=2, blocks=10, time_s=0.5, warmup_s=0.2, limit_s=20)
    rig = Bench(
        reach=reach or Local(), session="fake_session:FakeSession", conditions=Conditions(batch=2), measure=measure
    )
    return replace(rig, **changes)


def run(folder: Path, **told):
    return measure_artifact(bench(), artifact(folder, **told))


def test_a_launch_holds_samples_phases_outputs_and_profile(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = tmp_path / "x.npz"
    np.savez(file, **{"0": x})
    began = time.monotonic()
    found = measure_artifact(bench(feed=file, evaluate=file), artifact(tmp_path))
    launch = found.launches[0]
    assert len(launch.samples_ns) >= 50
    assert min(launch.samples_ns) > 1000
    cold = launch.cold
    assert cold is not None
    assert cold.start_ms is not None
    assert 0 < cold.start_ms < 1e3 * (time.monotonic() - began)
    assert cold.runtime_ms > 0
    assert cold.first_ms > 0
    assert [phase.name for phase in launch.memory] == ["imported", "loaded", "first_run", "steady"]
    assert found.version == "fake 1"
    assert found.profile[0].operator == "Fake"
    assert found.outputs is not None
    np.testing.assert_allclose(found.outputs[0].rows[:, 1], 2 * x[:, 0])
    assert "no meter" in found.missing["energy_per_inference_mj"]


def test_the_last_launch_ends_with_a_sustained_run_where_the_suite_asks(tmp_path):
    rig = bench()
    found = measure_artifact(replace(rig, measure=replace(rig.measure, launches=2, sustain_s=1.2)), artifact(tmp_path))
    first, last = found.launches
    assert first.sustained == ()
    assert sum(window.seconds for window in last.sustained) >= 1.2
    assert all(window.p50_ns > 1000 for window in last.sustained)
    assert last.climate[-1].moment == "after the sustained run"


def test_the_peak_of_a_phase_is_what_it_really_took(tmp_path):
    found = run(tmp_path, ballast_bytes=64 * 2**20)
    steady = found.launches[0].memory[3]
    assert 60 * 2**20 < steady.peak_growth < 80 * 2**20


def test_what_a_runtime_prints_is_no_event(tmp_path):
    assert run(tmp_path, behave="print").launches


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        ("unsupported", Unsupported, "this file is unsupported"),
        ("unavailable", Unavailable, "this file is unavailable"),
        ("invalid", InvalidInput, "this file is invalid"),
        ("crash", CellFailed, "the runtime broke"),
        ("die", CellFailed, "signal 9"),
    ],
)
def test_an_error_in_the_worker_is_the_same_error_here(tmp_path, behave, error, words):
    with pytest.raises(error, match=words):
        run(tmp_path, behave=behave)


def test_a_worker_that_hangs_is_killed_with_its_children(tmp_path):
    pidfile = tmp_path / "pid"
    rig = bench(measure=Measure(launches=1, limit_s=8))
    with pytest.raises(CellFailed, match="no end after 8 s"):
        measure_artifact(rig, artifact(tmp_path, behave="hang with a child", pidfile=str(pidfile)))
    wait_until(lambda: not is_alive(int(pidfile.read_text())))


@pytest.mark.parametrize("garbage", ["hello", "[1, 2]", '{"no": "event"}', '{"event": "end"', "\\xff\\xfe"])
def test_a_worker_that_prints_garbage_fails_the_cell(tmp_path, garbage):
    script = tmp_path / "liar.py"
    script.write_text(f"import sys; sys.stdout.buffer.write(b'{garbage}\\n')")
    rig = bench(reach=Local([sys.executable, str(script)]))
    with pytest.raises(CellFailed, match="garbage"):
        measure_artifact(rig, artifact(tmp_path))


def test_events_of_the_wrong_shape_fail_the_cell(tmp_path):
    script = tmp_path / "liar.py"
    script.write_text('print(\'{"event": "timed"}\'); print(\'{"event": "end"}\')')
    with pytest.raises(CellFailed):
        measure_artifact(bench(reach=Local([sys.executable, str(script)])), artifact(tmp_path))


@pytest.mark.parametrize(
    ("behave", "words"), [("no profile", "the profiler is missing"), ("profile too large", "out of memory")]
)
def test_a_profile_that_fails_costs_the_profile_alone(tmp_path, behave, words):
    found = run(tmp_path, behave=behave)
    assert found.launches
    assert found.outputs is not None
    assert found.profile == ()
    assert found.missing["profile"] == words


def test_a_meter_that_sees_the_machine_held_back_distrusts_latencies_and_pairs(tmp_path):
    rig = bench(meters=(MeterChoice(path="fake_meter:Throttled"),))
    found = measure_artifact(rig, artifact(tmp_path))
    assert found.distrust == ("slowed down by its fan",)
    pair = pair_launch(rig, artifact(tmp_path), artifact(tmp_path), 0)
    assert pair.distrust == ("slowed down by its fan",)


def test_a_pair_says_what_either_side_fell_back_to(tmp_path):
    good, bad = artifact(tmp_path, "good"), artifact(tmp_path, "bad", fallbacks=["asked for int8, ran float32"])
    assert pair_launch(bench(), good, good, 0).distrust == ()
    assert pair_launch(bench(), good, bad, 0).distrust == ("B: asked for int8, ran float32",)
    assert pair_launch(bench(), bad, good, 1).distrust == ("A: asked for int8, ran float32",)


def test_the_worker_dies_with_its_parent(tmp_path):
    pidfile = tmp_path / "pid"
    model = artifact(tmp_path, behave="hang", pidfile=str(pidfile))
    job = Job(
        task="measure",
        session="fake_session:FakeSession",
        subjects=(Subject(path=str(model.path), digest=""),),
        limits=Limits(),
    )
    (tmp_path / "job.json").write_text(job.to_json())
    start = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); sys.stdin.read()"
    command = [sys.executable, "-c", start, sys.executable, "-m", "bench.device.worker", str(tmp_path / "job.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as parent:
        wait_until(lambda: pidfile.exists() and pidfile.read_text())
        worker = int(pidfile.read_text())
        assert is_alive(worker)
    assert parent.returncode == 0
    wait_until(lambda: not is_alive(worker))


@pytest.mark.solo
def test_a_pair_sees_twice_the_work_as_twice_the_time(tmp_path):
    slow, fast = artifact(tmp_path, "slow", busy=8000), artifact(tmp_path, "fast", busy=4000)
    pair = pair_launch(bench(), fast, slow, 1)
    assert pair.first == "b"
    assert len(pair.blocks_ns) == 10
    ratios = [(b1 + b2) / (a1 + a2) for a1, b1, b2, a2 in pair.blocks_ns]
    assert 1.7 < float(np.median(ratios)) < 2.3


def test_a_worker_on_a_full_disk_says_so_though_its_log_cannot(tmp_path):
    job = bench().make_job("measure", [bench().make_subject(artifact(tmp_path))])
    with pytest.raises(DiskFull, match=r"disk full: a worker: .*No space left on device"):
        Local().run(replace(job, outputs="/dev/full"), tmp_path, 20)
