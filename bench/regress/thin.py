"""Old records without most of their raw samples: what their figures are computed from stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.records import Launch, PairLaunch, Record
from bench.stats import keep_clean
from bench.stats.latency import MIN_CLEAN, pick_samples
from bench.stats.ratio import choose_blocks, take_logs
from bench.types import Clock

QUANTILES = 101
"""Samples that a launch keeps: an odd number of evenly spaced ones, so that its median stays."""
THINNED = "thinned"


def thin(record: Record) -> Record:
    """The record with at most 101 samples a launch, and the middle blocks of each comparison. The same for a thin one.

    Medians, and so the latency, the speed-up and their intervals, stay as they were (to 1 ns). Waits go: the preempted
    samples were left out where a launch had enough others.
    """
    if record.facts.get(THINNED):
        return record
    return replace(
        record,
        launches=thin_launches(record.launches, record.clock),
        pairs=tuple(thin_pair(pair, record.conditions.threads) for pair in record.pairs),
        missing={**record.missing, "clean_share": "old: of the raw samples, the quantiles are kept"},
        facts={**record.facts, THINNED: f"{sum(len(launch.samples_ns) for launch in record.launches)} raw samples"},
    )


def thin_launches(launches: Sequence[Launch], clock: Clock) -> tuple[Launch, ...]:
    """Evenly spaced order statistics of the samples that count, the middle one their median. As in `latency`, preempted
    samples count in all launches where one has too few others."""
    given = [pick_samples(launch, clock) for launch in launches]
    cleans = [keep_clean(samples, launch.waits_ns)[0] for samples, launch in zip(given, launches, strict=True)]
    enough = all(len(kept) >= min(MIN_CLEAN, len(raw)) for kept, raw in zip(cleans, given, strict=True))
    used = cleans if enough else [np.asarray(raw) for raw in given]
    if clock is Clock.DEVICE:
        return tuple(
            replace(one, samples_ns=spread(np.asarray(one.samples_ns)), waits_ns=(), device_ns=spread(kept))
            for one, kept in zip(launches, used, strict=True)
        )
    return tuple(
        replace(one, samples_ns=spread(kept), waits_ns=(), device_ns=())
        for one, kept in zip(launches, used, strict=True)
    )


def spread(samples: np.ndarray) -> tuple[int, ...]:
    """At most `QUANTILES` of the samples in order; all where there are no more."""
    if len(samples) <= QUANTILES:
        return tuple(int(sample) for sample in samples)
    chosen = np.quantile(samples, np.linspace(0, 1, QUANTILES))
    return tuple(round(sample) for sample in chosen)


def thin_pair(pair: PairLaunch, threads: int) -> PairLaunch:
    """The one or two blocks whose ratio is the median of those that count."""
    if not pair.blocks_ns:
        return pair
    blocks, _ = choose_blocks(pair, threads)
    order = np.argsort(take_logs(blocks), kind="stable")
    middle = order[(len(order) - 1) // 2 : len(order) // 2 + 1]
    rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in blocks[middle])
    return replace(pair, blocks_ns=rows, waits_ns=())
