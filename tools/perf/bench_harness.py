"""What the timing loop adds, and whether its median is the one a bare loop finds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.device.job import Limits
from bench.device.timing import PREEMPTED_NS, RunQueue, collect, drop_preempted, measure
from tools.perf.subjects import baseline_onnx


def main() -> Iterator[str]:
    queue = RunQueue(Path("/"))
    yield from overhead(queue)
    yield from agreement(queue)
    yield from start()


def overhead(queue: RunQueue) -> Iterator[str]:
    """The smallest sample of nothing is what stands inside the interval; the rest of a round stands around it."""

    def nothing() -> None:
        return None

    rounds, wholes, insides = 200, [], []
    for _ in range(200):
        start = perf_counter_ns()
        samples = collect([nothing], rounds, queue)
        wholes.append((perf_counter_ns() - start) / rounds)
        insides.append(float(np.median(samples.elapsed_ns)))
    inside, whole = statistics.median(insides), statistics.median(wholes)
    yield f"inside the timed interval: {inside:.0f} ns (asked: under 200 ns)"
    yield f"around it: {whole - inside:.0f} ns (asked: under 3000 ns)"


def agreement(queue: RunQueue) -> Iterator[str]:
    """Turns of a bare loop around session.run and of our loop on the same session, one process."""
    from backends.ort.session import OrtSession

    session = OrtSession.open(baseline_onnx("mobilenetv2(size=224)"), threads=1, batch=1, options={})
    spec = session.inputs()[0]
    feed = {spec.name: np.random.default_rng(0).random(spec.shape, dtype=np.float32)}
    run = session.bind(feed)
    raw = session._session
    ratios = []
    for _ in range(15):
        ours = measure(run, queue, Limits(warmup_s=0.1, min_samples=60, max_samples=60, width=0.0)).samples
        taken = ours.elapsed_ns.ravel()
        kept = drop_preempted(taken, ours.waits_ns.ravel())
        median = float(np.median(kept if len(kept) else taken))
        ratios.append(median / bare_loop(raw, feed, queue))
    yield f"clean median over a bare loop's, MobileNetV2 224: {statistics.median(ratios):.4f} (asked: 0.99 .. 1.01)"


def bare_loop(raw: Any, feed: dict[str, np.ndarray], queue: RunQueue) -> float:
    """Median of 60 calls of session.run; those that waited for a CPU left out here too."""
    taken, kept = [], []
    for _ in range(60):
        before = queue.waited()
        start = perf_counter_ns()
        raw.run(None, feed)
        end = perf_counter_ns()
        taken.append(end - start)
        if queue.waited() - before <= PREEMPTED_NS:
            kept.append(end - start)
    return statistics.median(kept or taken)


def start() -> Iterator[str]:
    """`pressbench --help`, 9 times, the median."""
    command = [str(Path(sys.executable).with_name("pressbench")), "--help"]
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    yield f"pressbench --help: {statistics.median(times):.3f} s (asked: under 0.3 s)"
