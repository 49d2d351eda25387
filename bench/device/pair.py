"""Baseline and candidate in ABBA blocks in one process.

What drifts linearly over a block (clock, temperature, a neighbour) falls out of (b1 + b2) / (a1 + a2).
The interval is over launches, not blocks: where buffers land biases a whole launch (docs/measuring.md).
"""

from __future__ import annotations

import math

from bench.device.job import Limits
from bench.device.session import Feed, Session
from bench.device.timing import Run, RunQueue, collect, repeat, warm_up
from bench.types import Clock, Json

SHORTEST_NS = 100_000
"""A duration to compare is at least this long, or made of several inferences."""


def compare(a: Session, feed_a: Feed, b: Session, feed_b: Feed, limits: Limits, queue: RunQueue) -> dict[str, Json]:
    """The fields of a `PairLaunch` but `first`: durations of one inference, ns, in a b b a order."""
    run_a, run_b = a.bind(feed_a), b.bind(feed_b)
    warm_up([run_a, run_b], queue, limits.warmup_s)
    on_device = a.clock is Clock.DEVICE
    loops = 1 if on_device else _loops([run_a, run_b], queue)
    many_a, many_b = repeat(run_a, loops), repeat(run_b, loops)
    reads = [a.device_ns, b.device_ns, b.device_ns, a.device_ns] if on_device else []
    order = [many_a, many_b, many_b, many_a]
    samples = collect(order, _blocks(order, limits, queue), queue, device=reads)
    durations = samples.device_ns if on_device else samples.elapsed_ns
    return {
        "blocks_ns": (durations / loops).tolist(),
        "waits_ns": samples.waits_ns.tolist() if samples.waits_ns.size else [],
        "loops": loops,
        "clock": a.clock.value,
    }


def _loops(order: list[Run], queue: RunQueue) -> int:
    fastest = float(collect(order, 5, queue).elapsed_ns.min())
    return max(1, math.ceil(SHORTEST_NS / max(fastest, 1.0)))


def _blocks(order: list[Run], limits: Limits, queue: RunQueue) -> int:
    """As many as asked for, fewer where they would take longer than `limits.time_s`, 5 at least."""
    block_s = float(collect(order, 1, queue).elapsed_ns.sum()) / 1e9
    return min(limits.blocks, max(5, int(limits.time_s / block_s)))
