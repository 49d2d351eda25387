"""The one timing loop, its warm-up and its stopping rule.

Every sample is one call between two reads of `perf_counter_ns`. The thread's run-queue wait is read between the
samples, which separates a preempted sample from a slow one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.device.job import Limits

Inference = Callable[[], object]
"""A bound inference: `Session.bind` returns one."""
ReadNs = Callable[[], int]
"""Reads a clock, in nanoseconds."""
Number = TypeVar("Number", bound=np.generic)

PREEMPTED_NS = 20_000
"""A sample whose thread waited longer than this for a CPU was preempted."""
WINDOW = 8
STEADY = 0.02
PACE = 2
"""Rounds that measure how long one takes; the first may be the slowest by far."""
PART = 4
"""A launch may take a fourth of its time more, so that the last of the five chunks that `min_samples` make ends too."""
PATIENCE = 8
"""Windows a warm-up may have. Of pure noise without a trend, two in a row are calm among 8 in 98 of 100 cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """`elapsed_ns`, `waits_ns`, `device_ns`: int64, one row a round, one column a call of the round's order.
    `waits_ns` has no columns where the kernel does not say, `device_ns` none without a device's clock."""

    elapsed_ns: NDArray[np.int64]
    waits_ns: NDArray[np.int64]
    device_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What `measure` found; `stopped` is "converged", "time limit" or "sample limit"."""

    samples: Samples
    warmup: int
    steady: bool
    stopped: str


class RunQueue:
    """Reads how long this thread has waited for a CPU, in ns (field 2 of /proc/thread-self/schedstat)."""

    def __init__(self, root: Path) -> None:
        try:
            self._file: int | None = os.open(root / "proc/thread-self/schedstat", os.O_RDONLY)
            self.waited()
        except (OSError, ValueError, IndexError):
            self._file = None

    @property
    def known(self) -> bool:
        """False where the kernel does not say: then no sample can be called preempted."""
        return self._file is not None

    @property
    def look(self) -> Callable[[], bytes] | None:
        """Reads the line that holds the wait: the cheapest call there is. The line is parsed after the timing."""
        return None if self._file is None else partial(os.pread, self._file, 64, 0)

    def waited(self) -> int:
        """Nanoseconds waited since the thread began."""
        return 0 if self._file is None else _read_wait(os.pread(self._file, 64, 0))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)


def _read_wait(line: bytes) -> int:
    return int(line.split(b" ", 2)[1])


def collect(
    order: Sequence[Inference],
    rounds: int,
    queue: RunQueue,
    *,
    device: Sequence[Callable[[], int]] = (),
    now: ReadNs = perf_counter_ns,
) -> Samples:
    """Calls `order` one after another, `rounds` times; `device[i]()` after `order[i]()` gives its device time.

    The run-queue wait is read once between two samples, since a read costs as much as all else around a sample.
    What the wait grew by since the read before a sample belongs to that sample.
    """
    starts: list[int] = []
    ends: list[int] = []
    devices: list[int] = []
    look = queue.look
    looks = [look()] if look else []
    for _ in range(rounds):
        for position, run in enumerate(order):
            start = now()
            run()
            end = now()
            if look:
                looks.append(look())
            starts.append(start)
            ends.append(end)
            if device:
                devices.append(device[position]())
    shape = (rounds, len(order))
    waited = np.array([_read_wait(line) for line in looks], np.int64)
    return Samples(
        elapsed_ns=(np.array(ends, np.int64) - np.array(starts, np.int64)).reshape(shape),
        waits_ns=(waited[1:] - waited[:-1]).reshape(shape if look else (rounds, 0)),
        device_ns=np.array(devices, np.int64).reshape(shape if devices else (rounds, 0)),
    )


def warm_up(
    order: Sequence[Inference], queue: RunQueue, limit_s: float, *, now: ReadNs = perf_counter_ns
) -> tuple[int, bool]:
    """Runs until two windows in a row are no faster than the best before, or until `limit_s` is over.

    Returns how many rounds that took and whether it became steady. A window is the median of `WINDOW` rounds, of
    fewer where `PATIENCE` windows would not fit in `limit_s`; "no faster" means by less than 2 %. `PATIENCE` windows
    run whatever they cost, so that an inference of any length can become steady (5 rounds at best).
    """
    start, best, calm, windows = now(), math.inf, 0, 0
    pace_ns = float(collect(order, PACE, queue, now=now).elapsed_ns.sum(axis=1).min())
    size = min(WINDOW, max(1, int(limit_s * 1e9 / (PATIENCE * max(pace_ns, 1.0)))))
    while calm < 2:
        if windows >= PATIENCE and now() - start > limit_s * 1e9:
            return PACE + windows * size, False
        window = float(np.median(collect(order, size, queue, now=now).elapsed_ns.sum(axis=1)))
        windows += 1
        calm = calm + 1 if window > best * (1 - STEADY) else 0
        best = min(best, window)
    return PACE + windows * size, True


def median_width(samples: NDArray[np.int64]) -> float:
    """Half width of the 95 % interval of the median by order statistics (binomial, normal
    approximation n/2 +- 0.98 sqrt(n)), relative to the median; inf below 6 samples."""
    count = len(samples)
    reach = math.ceil(0.98 * math.sqrt(count))
    low, high = count // 2 - reach, count // 2 + reach
    if low < 0 or high >= count:
        return math.inf
    ordered = np.sort(samples)
    middle = float(ordered[count // 2])
    return float(ordered[high] - ordered[low]) / 2 / middle if middle > 0 else math.inf


def drop_preempted(elapsed: NDArray[Number], waits: NDArray[np.int64], limit_ns: int = PREEMPTED_NS) -> NDArray[Number]:
    """The samples that waited at most `limit_ns` for a CPU; all of them where the kernel gives no waits."""
    return elapsed[waits <= limit_ns] if waits.size else elapsed


def measure(
    run: Inference,
    queue: RunQueue,
    limits: Limits,
    *,
    device: Callable[[], int] | None = None,
    now: ReadNs = perf_counter_ns,
) -> Timed:
    """Warms up, then samples until the median is known to `limits.width`, or a limit is reached.

    The clock that decides is the device's where there is one. The interval is computed only when the number of
    samples has grown by a half, which keeps its cost and its bias small. A slow inference is
    sampled at least once, and for `limits.time_s` and a fourth of it, or one inference more, at most.
    """
    warmup, steady = warm_up([run], queue, limits.warmup_s, now=now)
    reads = [device] if device else []
    start, chunks, count, wanted = now(), [], 0, limits.min_samples
    pace = max(1, int(limits.min_samples / 5))
    stopped = "sample limit"
    while count < limits.max_samples:
        rounds = min(pace - count % pace, limits.max_samples - count, _fit_rounds(count, now() - start, limits.time_s))
        chunks.append(collect([run], rounds, queue, device=reads, now=now))
        count += rounds
        late = now() - start > limits.time_s * 1e9
        if count >= wanted or late:
            if _interval_width(chunks) <= limits.width and count >= limits.min_samples:
                stopped = "converged"
                break
            wanted = count + count // 2
        if late:
            stopped = "time limit"
            break
    return Timed(samples=_join(chunks), warmup=warmup, steady=steady, stopped=stopped)


def _fit_rounds(count: int, spent_ns: int, time_s: float) -> int:
    """How many more rounds fit into the time, of which `count` took `spent_ns`; the first shows how long one takes."""
    if not count:
        return 1
    left_ns = max(time_s * 1e9 - spent_ns, time_s * 1e9 / PART)
    return max(1, int(left_ns * count / max(spent_ns, 1)))


def _interval_width(chunks: Sequence[Samples]) -> float:
    joined = _join(chunks)
    if joined.device_ns.size:
        return median_width(joined.device_ns[:, 0])
    return median_width(drop_preempted(joined.elapsed_ns.ravel(), joined.waits_ns.ravel()))


def _join(chunks: Sequence[Samples]) -> Samples:
    return Samples(
        elapsed_ns=np.concatenate([chunk.elapsed_ns for chunk in chunks]),
        waits_ns=np.concatenate([chunk.waits_ns for chunk in chunks]),
        device_ns=np.concatenate([chunk.device_ns for chunk in chunks]),
    )


def repeat(run: Inference, loops: int) -> Inference:
    """One call that runs `loops` times: for inferences too short for a clock to split."""
    if loops == 1:
        return run

    def many() -> None:
        for _ in range(loops):
            run()

    return many
