"""Our clean LiteRT median beside LiteRT's own benchmark on the same file and threads: within 2 %."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backends.litert.compile import LitertBackend
from bench.artifacts import compiled
from bench.device.job import Job, Limits, Subject
from bench.places import cache_folder
from bench.reach.local import Local
from bench.records import Launch
from bench.stats import latency
from bench.types import Artifact, Clock, Conditions
from tests.perf.subjects import compressed

MODEL = "mobilenetv2"
LAUNCHES = 9
RUNS = 200
GOAL = 0.02


def main() -> Iterator[str]:
    artifact = compiled(LitertBackend(), compressed(MODEL), Conditions(), {}, cache_folder(os.environ))
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(LAUNCHES):
            turns = [(ours, our_median), (theirs, their_median)]
            for found, measure in turns if number % 2 else turns[::-1]:
                workdir = Path(folder) / f"{measure.__name__}-{number}"
                workdir.mkdir()
                found.append(measure(artifact, workdir))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    verdict = "agree" if abs(ratio - 1) <= GOAL else "DISAGREE"
    yield f"{MODEL} float32, 1 thread, {LAUNCHES} launches each, alternating"
    yield f"ours {statistics.median(ours):.3f} ms, benchmark_litert_model {statistics.median(theirs):.3f} ms"
    yield f"ratio {ratio:.4f}: they {verdict} within {GOAL:.0%}"


def our_median(artifact: Artifact, workdir: Path) -> float:
    """Milliseconds: the clean median of one launch, as the product measures and computes it."""
    options = artifact.facts["session_options"]
    job = Job(
        task="measure",
        session="backends.litert.session:LitertSession",
        subjects=(Subject(path=str(artifact.path), digest=artifact.digest, options=options),),
        limits=Limits(warmup_s=0.3, time_s=2.0),
        outputs=str(workdir / "outputs.npz"),
        random_samples=1,
    )
    timed = next(event for event in Local().run(job, workdir, 120.0) if event["event"] == "timed")
    launch = Launch(samples_ns=tuple(timed["samples_ns"]), waits_ns=tuple(timed["waits_ns"]))
    return latency([launch], Clock.HOST).p50.value


def their_median(artifact: Artifact, workdir: Path) -> float:
    """Milliseconds: the median that LiteRT's benchmark prints; it marks no preempted sample."""
    result = workdir / "result.json"
    command = [
        *(sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model", "--model", str(artifact.path)),
        *("--num_threads", "1", "--num_runs", str(RUNS), "--warmup_runs", "50", "--result_json", str(result)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return float(json.loads(result.read_text(encoding="utf-8"))["latency"]["median_ms"])
