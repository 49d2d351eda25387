"""Baseline and candidate in ABBA blocks in one process.

What drifts linearly over a block (clock, temperature, a neighbour) falls out of (b1 + b2) / (a1 + a2).
The interval is over launches, not blocks: where buffers land biases a whole launch (docs/measuring.md).
"""

from __future__ import annotations

import math

from bench.device.events import PairTimed
from bench.device.job import Limits
from bench.device.session import Feed, Session
from bench.device.timing import Inference, RunQueue, collect, repeat, warm_up
from bench.records import PairLaunch
from bench.types import Clock

SHORTEST_NS = 100_000
"""A duration to compare is at least this long, or made of several inferences."""


def compare(
    a: Session, feed_a: Feed, b: Session, feed_b: Feed, limits: Limits, queue: RunQueue, *, first: str = "a"
) -> PairTimed:
    """Durations of one inference, in ns and a b b a order; without `distrust`.

    `first` ("a" or "b") is bound, warmed and run first, so that neither side is always earlier. With "b" the blocks
    run b a a b, and their columns are put back in order.
    """
    pair = [(a, feed_a), (b, feed_b)]
    runs = [session.bind(feed) for session, feed in (pair if first == "a" else pair[::-1])]
    _, steady = warm_up(runs, queue, limits.warmup_s)
    on_device = a.clock is Clock.DEVICE
    loops = 1 if on_device else _loops(runs, queue)
    one, two = (repeat(run, loops) for run in runs)
    early, late = (a, b) if first == "a" else (b, a)
    reads = [early.device_ns, late.device_ns, late.device_ns, early.device_ns] if on_device else []
    order = [one, two, two, one]
    samples = collect(order, _blocks(order, limits, queue), queue, device=reads)
    columns = [0, 1, 2, 3] if first == "a" else [1, 0, 3, 2]
    durations = (samples.device_ns if on_device else samples.elapsed_ns)[:, columns]
    launch = PairLaunch(
        blocks_ns=tuple(map(tuple, (durations / loops).tolist())),
        waits_ns=tuple(map(tuple, samples.waits_ns[:, columns].tolist())) if samples.waits_ns.size else (),
        first=first,
        loops=loops,
        clock=a.clock,
        steady=steady,
    )
    return PairTimed(launch=launch)


def _loops(order: list[Inference], queue: RunQueue) -> int:
    fastest = float(collect(order, 5, queue).elapsed_ns.min())
    return max(1, math.ceil(SHORTEST_NS / max(fastest, 1.0)))


def _blocks(order: list[Inference], limits: Limits, queue: RunQueue) -> int:
    """How many blocks: those asked for, or as many as fit into `limits.time_s`, but at least 5."""
    block_s = float(collect(order, 1, queue).elapsed_ns.sum()) / 1e9
    return min(limits.blocks, max(5, int(limits.time_s / block_s)))
