"""Summaries of several launches -> latency of one cell, where the program that measured keeps no samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.records import Launch
from bench.stats.intervals import Estimate
from bench.stats.latency import estimate_over_launches

NO_SAMPLES = "the program that measured prints a summary and keeps no samples"
NO_MEDIAN = f"{NO_SAMPLES}, and no median: the mean is in `latency_mean_ms`, newer versions print a median"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizedLatency:
    """Latency of one inference in milliseconds: `mean` over all inferences, `p50` as of `bench.stats.latency.Latency`.

    `missing`: CSV column -> why a summary cannot fill it.
    """

    mean: float
    p50: Estimate | None
    samples: int
    missing: Mapping[str, str] = field(default_factory=dict)


def summarize(launches: Sequence[Launch]) -> SummarizedLatency | None:
    """What summaries say. None where a launch has samples, or none has a summary."""
    found = [launch.summary for launch in launches if launch.summary]
    if not found or any(launch.samples_ns or launch.device_ns for launch in launches):
        return None
    samples = sum(one.count for one in found)
    mean = sum(one.count * one.mean_ns for one in found) / samples / 1e6
    medians = [one.median_ns / 1e6 for one in found if one.median_ns]
    missing = dict.fromkeys(("latency_p90_ms", "latency_p99_ms", "clean_share"), NO_SAMPLES)
    if len(medians) < len(found):
        without = ("latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms", "throughput_per_s")
        return SummarizedLatency(
            mean=mean, p50=None, samples=samples, missing={**missing, **dict.fromkeys(without, NO_MEDIAN)}
        )
    return SummarizedLatency(mean=mean, p50=estimate_over_launches(medians), samples=samples, missing=missing)
