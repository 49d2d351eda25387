"""Samples of several launches -> latency of one cell, without the samples that other processes interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.device.timing import drop_preempted
from bench.records import Launch
from bench.stats.intervals import Estimate, mean_interval
from bench.types import Clock

MIN_CLEAN = 6
"""Clean samples a launch must keep for its clean median to stand (the least a median interval needs)."""
QUANTILE_SAMPLES = {"p90": 29, "p99": 299}
"""Least n with 1 - q**n >= 95 %: only then does the largest sample bound the quantile from above."""

Nanoseconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latency of one inference in milliseconds.

    `p50`: median over launches of each launch's median, with an interval over launches.
    `mean`, `p90`, `p99`: pooled over the same samples as the medians; a quantile is None where the
    samples cannot support it, with the reason in `missing`. `samples`: how many those are.
    `clean_share`: share of all samples not preempted, None where the kernel does not say.
    `raw_p50`: `p50`'s value with the preempted samples left in. `basis`: "clean", or "raw" where a
    launch kept too few clean samples (then the preempted ones are in all figures).
    """

    mean: float
    p50: Estimate
    p90: float | None
    p99: float | None
    samples: int
    clean_share: float | None
    raw_p50: float
    basis: str = "clean"
    missing: Mapping[str, str] = field(default_factory=dict)


def keep_clean(samples_ns: Sequence[int], waits_ns: Sequence[int]) -> tuple[Nanoseconds, float | None]:
    """The samples that were not preempted, in order, and their share of all.

    Without waits every sample is kept and the share is None: the kernel did not say. ValueError: not one wait per
    sample.
    """
    if len(waits_ns) not in (0, len(samples_ns)):
        raise ValueError(f"{len(waits_ns)} waits for {len(samples_ns)} samples")
    kept = drop_preempted(np.asarray(samples_ns, dtype=np.float64), np.asarray(waits_ns, dtype=np.int64))
    return kept, (len(kept) / len(samples_ns) if len(waits_ns) else None)


def clean_median(launch: Launch, clock: Clock) -> tuple[float, bool] | None:
    """The median of one launch in ns: of its clean samples, and True, where enough are clean; else of all, and False.

    None for a launch without samples.
    """
    samples = pick_samples(launch, clock)
    if not samples:
        return None
    kept, _ = keep_clean(samples, launch.waits_ns)
    enough = len(kept) >= min(MIN_CLEAN, len(samples))
    return float(np.median(kept if enough else samples)), enough


def clean_medians(launches: Sequence[Launch], clock: Clock) -> list[float]:
    """The median of each launch that has samples, in ns, as `clean_median` takes it."""
    return [found[0] for launch in launches if (found := clean_median(launch, clock))]


def latency(launches: Sequence[Launch], clock: Clock) -> Latency:
    """The latency of one cell, from launches that are each a fresh process.

    The launch is the unit of repetition: where its buffers land shifts all its samples. So the interval of p50 is
    Student's over the logarithms of at least 3 launch medians, widened to hold the median of medians where that
    lies outside. Launches without samples are left out. ValueError: no launch has samples.
    """
    raws, cleans, used = choose_samples(launches, clock)
    pooled = np.concatenate(used) / 1e6
    tails, missing = find_quantiles(pooled)
    return Latency(
        mean=float(pooled.mean()),
        p50=estimate_over_launches(find_medians(used)),
        p90=tails["p90"],
        p99=tails["p99"],
        samples=len(pooled),
        clean_share=pool_shares(cleans, raws),
        raw_p50=float(np.median([np.median(raw) for raw in raws])) / 1e6,
        basis="raw" if used is raws else "clean",
        missing=missing,
    )


def latency_p50(launches: Sequence[Launch], clock: Clock) -> float:
    """`latency(...).p50.value` by itself, at a tenth of the cost. ValueError: as `latency`."""
    return float(np.median(find_medians(choose_samples(launches, clock)[2])))


def find_medians(used: Sequence[Nanoseconds]) -> list[float]:
    """The median of each launch, in ms."""
    return [float(np.median(samples)) / 1e6 for samples in used]


def choose_samples(
    launches: Sequence[Launch], clock: Clock
) -> tuple[list[Nanoseconds], list[tuple[Nanoseconds, float | None]], list[Nanoseconds]]:
    """Of each launch with samples: all, the clean ones with their share, and those that count. ValueError: as `latency`."""
    picked = [(pick_samples(one, clock), one.waits_ns) for one in launches if len(pick_samples(one, clock))]
    raws = [np.asarray(samples, dtype=np.float64) for samples, _ in picked]
    if not raws:
        raise ValueError(f"no samples of the {clock.value} clock")
    cleans = [keep_clean(samples, waits) for samples, waits in picked]
    enough = all(len(kept) >= min(MIN_CLEAN, len(raw)) for (kept, _), raw in zip(cleans, raws, strict=True))
    return raws, cleans, [kept for kept, _ in cleans] if enough else raws


def pick_samples(launch: Launch, clock: Clock) -> Sequence[int]:
    """The samples of the clock that counts."""
    return launch.device_ns if clock is Clock.DEVICE else launch.samples_ns


def estimate_over_launches(medians: Sequence[float]) -> Estimate:
    """Median of the launch medians, with Student's interval over their logarithms."""
    value = float(np.median(medians))
    logs = mean_interval(np.log(medians))
    if logs.low is None or logs.high is None:
        return Estimate(value=value, low=None, high=None, n=logs.n)
    low, high = float(np.exp(logs.low)), float(np.exp(logs.high))
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=logs.n)


def find_quantiles(pooled: NDArray[np.float64]) -> tuple[dict[str, float | None], dict[str, str]]:
    """p90 and p99 where there are `QUANTILE_SAMPLES`, and for the others why not."""
    found: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name, needed in QUANTILE_SAMPLES.items():
        if len(pooled) >= needed:
            found[name] = float(np.quantile(pooled, int(name[1:]) / 100))
        else:
            found[name] = None
            missing[name] = f"{len(pooled)} samples support no 95 % bound of {name}: it needs {needed}"
    return found, missing


def pool_shares(cleans: Sequence[tuple[Nanoseconds, float | None]], raws: Sequence[Nanoseconds]) -> float | None:
    """Clean samples over all samples, of the launches whose kernel reports waits."""
    known = [(len(kept), len(raw)) for (kept, share), raw in zip(cleans, raws, strict=True) if share is not None]
    return sum(kept for kept, _ in known) / sum(total for _, total in known) if known else None
