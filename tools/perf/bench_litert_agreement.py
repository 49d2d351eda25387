"""Our clean LiteRT median beside LiteRT's own benchmark on the same file and threads: within 2 %.

Two ways: launches of ours and of the tool in turn, as a user would compare them; and the tool's own call
beside ours in one process, call by call, which a busy machine disturbs less.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import CpuOptions, Options

from backends.litert.compile import LitertBackend
from backends.litert.session import LitertSession
from bench.device.events import TimedRuns
from bench.device.job import Job, Limits, Subject
from bench.device.timing import PREEMPTED_NS, RunQueue
from bench.line.artifacts import compile_cached
from bench.paths import cache_folder
from bench.reach.local import Local
from bench.records import Launch
from bench.stats import latency
from bench.types import Artifact, Clock, Conditions
from tools.perf.subjects import compressed

MODEL = "mobilenetv2"
LAUNCHES = 9
RUNS = 200
GOAL = 0.02
BLOCKS = 250


def main() -> Iterator[str]:
    artifact = compile_cached(LitertBackend(), compressed(MODEL), Conditions(), {}, cache_folder(os.environ))
    ours: list[float] = []
    theirs: list[float] = []
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
    together, clean = one_process(artifact)
    verdict = "agree" if abs(together - 1) <= GOAL else "DISAGREE"
    yield f"calls of both in one process, {clean} clean ones each: ratio {together:.4f}: they {verdict} within {GOAL:.0%}"


def our_median(artifact: Artifact, workdir: Path) -> float:
    """Milliseconds: the clean median of one launch, as the product measures and computes it."""
    options = artifact.facts["session_options"]
    job = Job(
        task="measure",
        session="backends.litert.session:LitertSession",
        subjects=(
            Subject(path=str(artifact.path), digest=artifact.digest, options=options, precision=artifact.precision),
        ),
        limits=Limits(warmup_s=0.3, time_s=2.0),
        outputs=str(workdir / "outputs.npz"),
        random_samples=1,
    )
    timed = next(event for event in Local().run(job, workdir, 120.0).events if isinstance(event, TimedRuns))
    launch = Launch(samples_ns=timed.samples_ns, waits_ns=timed.waits_ns)
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


def one_process(artifact: Artifact) -> tuple[float, int]:
    """Ours over theirs, medians of the clean calls taken in the order ours, theirs, theirs, ours; how many those are."""
    options = artifact.facts["session_options"]
    session = LitertSession.open(artifact.path, threads=1, batch=1, options=options, precision=artifact.precision)
    (spec,) = session.inputs()
    ours = session.bind({spec.name: np.zeros(spec.shape, np.float32)})
    theirs = their_call(artifact)
    queue = RunQueue(Path("/"))
    for call in (ours, theirs) * 20:
        call()
    taken = [timed(call, queue) for call in (ours, theirs, theirs, ours) * BLOCKS]
    queue.close()
    mine = [spent for place, (spent, waited) in enumerate(taken) if place % 4 in (0, 3) and waited <= PREEMPTED_NS]
    other = [spent for place, (spent, waited) in enumerate(taken) if place % 4 in (1, 2) and waited <= PREEMPTED_NS]
    return statistics.median(mine) / statistics.median(other), min(len(mine), len(other))


def their_call(artifact: Artifact) -> Callable[[], object]:
    """What `benchmark_litert_model` times: `run_by_name` of a compiled model on buffers made before."""
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    model = CompiledModel.from_file(str(artifact.path), environment=Environment.create(), options=options)
    key = next(iter(model.get_signature_list()))
    inputs = {name: model.create_input_buffer_by_name(key, name) for name in model.get_input_tensor_details(key)}
    outputs = {name: model.create_output_buffer_by_name(key, name) for name in model.get_output_tensor_details(key)}
    for buffer in inputs.values():
        buffer.write(np.zeros(artifact.facts["inputs"][0]["shape"], np.float32))
    return partial(model.run_by_name, key, inputs, outputs)


def timed(call: Callable[[], object], queue: RunQueue) -> tuple[int, int]:
    """Nanoseconds of one call, and how long it waited for a processor meanwhile."""
    waited = queue.waited()
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start, queue.waited() - waited
