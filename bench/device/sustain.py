"""Back-to-back inference for minutes: latency, heat and clock over time, in a bounded number of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from bench.device.timing import Inference, ReadNs, RunQueue, Samples, collect, drop_preempted
from bench.records import SustainedWindow

WINDOW_S = 1.0
MOST_WINDOWS = 600
CHUNK_S = 0.1
"""A window is read in chunks of about so long, so that it ends in time."""
MOST_ROUNDS = 100_000
ReadHeat = Callable[[], "tuple[float | None, float | None]"]
"""The hottest zone in °C and the fastest clock in MHz, now."""


def sustain(
    run: Inference,
    queue: RunQueue,
    seconds: float,
    read_heat: ReadHeat,
    *,
    device: Callable[[], int] | None = None,
    now: ReadNs = perf_counter_ns,
) -> tuple[SustainedWindow, ...]:
    """Runs for `seconds` without a pause but for reading heat and clock between windows.

    A window lasts 1 s, or longer so that there are at most 600 of them; an inference that takes longer is a window of
    its own. Quantiles leave out samples that waited for a CPU, unless all of a window did.
    """
    length_ns = max(WINDOW_S, seconds / MOST_WINDOWS) * 1e9
    reads = [device] if device else []
    began, windows, rounds = now(), [], 1
    while (start := now()) - began < seconds * 1e9:
        chunks: list[Samples] = []
        while now() - start < length_ns:
            chunks.append(collect([run], rounds, queue, device=reads, now=now))
            rounds = _fit_rounds(chunks[-1])
        end = now()
        hottest, fastest = read_heat()
        windows.append(_make_window(chunks, (start - began) / 1e9, (end - start) / 1e9, hottest, fastest))
    return tuple(windows)


def _fit_rounds(chunk: Samples) -> int:
    each_ns = max(1.0, float(chunk.elapsed_ns.mean()))
    return max(1, min(MOST_ROUNDS, int(CHUNK_S * 1e9 / each_ns)))


def _make_window(
    chunks: Sequence[Samples], start_s: float, seconds: float, hottest_c: float | None, fastest_mhz: float | None
) -> SustainedWindow:
    samples = _choose([_join(chunks, "device_ns"), _keep_undisturbed(chunks), _join(chunks, "elapsed_ns")])
    p50, p90, p99 = (int(value) for value in np.quantile(samples, (0.5, 0.9, 0.99)))
    return SustainedWindow(
        start_s=start_s,
        seconds=seconds,
        inferences=sum(len(chunk.elapsed_ns) for chunk in chunks),
        p50_ns=p50,
        p90_ns=p90,
        p99_ns=p99,
        hottest_c=hottest_c,
        fastest_mhz=fastest_mhz,
    )


def _choose(kinds: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return next(samples for samples in kinds if samples.size)


def _keep_undisturbed(chunks: Sequence[Samples]) -> NDArray[np.int64]:
    return drop_preempted(_join(chunks, "elapsed_ns"), _join(chunks, "waits_ns"))


def _join(chunks: Sequence[Samples], name: str) -> NDArray[np.int64]:
    return np.concatenate([getattr(chunk, name).ravel() for chunk in chunks])
