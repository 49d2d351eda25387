"""Whether a cell's figures may be believed: the only place that decides a status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.device.energy import MARGIN, RESOLUTION_SHARE
from bench.errors import PressbenchError, Unavailable, Unsupported, Untrusted
from bench.records import Climate, Launch, PairLaunch
from bench.stats import latency
from bench.stats.energy import resolution_share
from bench.stats.latency import pick_samples
from bench.stats.summaries import summarize
from bench.types import Clock, Status

DRIFT = 0.05
WARMER_C = 2.0
LEAST_QUARTER = 10
LAUNCHES_APART = 1.5
"""Largest over smallest median of a cell's launches. Beyond it, their median says little of the next launch."""
SKIPS = (Unsupported, Unavailable)
"""Errors that say that a cell cannot be on this target: it is skipped, it did not fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a measured cell's status depends on; each text is a reason.

    `notes` are said with a cell and do not change its status. The rest makes it untrusted, but
    `doubts` and `pair_doubts`: they make it inconclusive. `made_wrong`: about how the file was made. `fallbacks`: from
    sessions and meters. `baseline_error`: an uncompressed file with wrong outputs. `far_from_reference`: outputs of a
    compressed file that are not those of its network. `baseline_distrust`: why its baseline is untrusted.
    """

    notes: tuple[str, ...] = ()
    made_wrong: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    baseline_error: str = ""
    far_from_reference: tuple[str, ...] = ()
    busy_machine: str = ""
    baseline_distrust: tuple[str, ...] = ()
    pair_distrust: tuple[str, ...] = ()
    pair_doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A cell's status and the reasons for it."""

    status: Status
    reasons: tuple[str, ...]


def decide(evidence: Evidence) -> Verdict:
    """Untrusted outweighs inconclusive, which outweighs ok. Each reason is said once, in the order it was found."""
    distrust = (
        *evidence.made_wrong,
        *evidence.fallbacks,
        *evidence.far_from_reference,
        *filter(None, [evidence.baseline_error, evidence.busy_machine]),
        *evidence.baseline_distrust,
        *evidence.pair_distrust,
    )
    doubts = (*evidence.doubts, *evidence.pair_doubts)
    status = Status.UNTRUSTED if distrust else Status.INCONCLUSIVE if doubts else Status.OK
    reasons = [
        *evidence.notes,
        *evidence.made_wrong,
        *evidence.fallbacks,
        *evidence.doubts,
        evidence.baseline_error,
        *evidence.far_from_reference,
        evidence.busy_machine,
        *evidence.baseline_distrust,
        *evidence.pair_distrust,
        *evidence.pair_doubts,
    ]
    return Verdict(status=status, reasons=tuple(dict.fromkeys(filter(None, reasons))))


def decide_error(error: Exception) -> Verdict:
    """The verdict on a cell that an error ended."""
    text = str(error) if isinstance(error, PressbenchError) else f"{type(error).__name__}: {error}"
    if isinstance(error, SKIPS):
        return Verdict(status=Status.SKIPPED, reasons=(text,))
    status = Status.UNTRUSTED if isinstance(error, Untrusted) else Status.FAILED
    return Verdict(status=status, reasons=(text,))


def find_doubts(launches: Sequence[Launch], clock: Clock) -> tuple[str, ...]:
    """What keeps launches from a conclusion.

    A median that was not known in time, a warm-up without an end, or launches whose medians lie far apart.
    """
    unsettled = sum(launch.stopped != "converged" for launch in launches)
    unsteady = sum(not launch.steady for launch in launches)
    doubts = [f"{unsettled} of {len(launches)} launches ended at a limit before the median was known"]
    doubts += [f"{unsteady} of {len(launches)} launches were still getting faster when warm-up ended"]
    said = [doubt for doubt, count in zip(doubts, (unsettled, unsteady), strict=True) if count]
    return (*said, *_find_apart(launches, clock))


def _find_apart(launches: Sequence[Launch], clock: Clock) -> list[str]:
    medians = [
        each.p50.value for launch in launches if pick_samples(launch, clock) for each in [latency([launch], clock)]
    ]
    if len(medians) < 2 or max(medians) <= LAUNCHES_APART * min(medians):
        return []
    return [f"the medians of {len(medians)} launches go from {min(medians):.3g} to {max(medians):.3g} ms"]


def find_pair_doubts(pairs: Sequence[PairLaunch]) -> tuple[str, ...]:
    """The same for paired launches, and those that slowed down with heat: blocks cancel a steady drift, not a step."""
    unsteady = sum(not pair.steady for pair in pairs)
    doubts = [f"{unsteady} of {len(pairs)} comparisons began while runs were still getting faster"] if unsteady else []
    for number, pair in enumerate(pairs, 1):
        slower, cause = _slowing([sum(block) for block in pair.blocks_ns]), find_cause(pair.climate)
        if slower > DRIFT and cause:
            doubts.append(f"comparison {number} got {slower:.0%} slower on the way: {cause}")
    return tuple(doubts)


def find_pair_distrust(pairs: Sequence[PairLaunch], of_a: Sequence[str], of_b: Sequence[str]) -> tuple[str, ...]:
    """What the comparisons fell back to or were slowed by.

    Skips reasons already recorded for A, the baseline, or B, the cell.
    """
    recorded = {*(f"A: {reason}" for reason in of_a), *(f"B: {reason}" for reason in of_b)}
    found = dict.fromkeys(reason for pair in pairs for reason in pair.distrust)
    return tuple(f"compared with its baseline (A): {reason}" for reason in found if reason not in recorded)


def find_drift(launches: Sequence[Launch], clock: Clock) -> tuple[str, ...]:
    """Launches that got slower while the device got hotter or its clock fell: neither the cold figure nor the warm."""
    return tuple(
        f"launch {number} got {slower:.0%} slower on the way: {cause}"
        for number, launch in enumerate(launches, 1)
        if (slower := find_slowing(launch, clock)) > DRIFT and (cause := find_cause(launch.climate))
    )


def find_slowing(launch: Launch, clock: Clock) -> float:
    """Median of the last quarter of the samples over that of the first, less 1; 0 of fewer than 40 samples."""
    return _slowing(launch.device_ns if clock is Clock.DEVICE else launch.samples_ns)


def _slowing(samples: Sequence[float]) -> float:
    quarter = len(samples) // 4
    return median(samples[-quarter:]) / median(samples[:quarter]) - 1 if quarter >= LEAST_QUARTER else 0.0


def find_cause(climate: Sequence[Climate]) -> str:
    """What changed from before the timing to after it that explains slowing down; "" if nothing that is seen."""
    if len(climate) < 2:
        return ""
    before, after = climate[0], climate[1]
    said = []
    if before.hottest_c is not None and after.hottest_c is not None and after.hottest_c - before.hottest_c >= WARMER_C:
        said.append(f"the hottest zone went from {before.hottest_c:.0f} to {after.hottest_c:.0f} °C")
    if before.fastest_mhz and after.fastest_mhz and after.fastest_mhz < (1 - DRIFT) * before.fastest_mhz:
        said.append(f"the fastest clock from {before.fastest_mhz:.0f} to {after.fastest_mhz:.0f} MHz")
    return ", ".join(said)


def find_coarse_meter(launches: Sequence[Launch]) -> tuple[str, ...]:
    """The meters whose resolution costs more than it should, although their windows were stretched."""
    windows = [window for launch in launches for window in launch.energy]
    shares = {
        name: resolution_share([window for window in windows if window.meter == name])
        for name in dict.fromkeys(window.meter for window in windows)
    }
    return tuple(
        f"energy by {name}: its resolution may change the figure by {share:.0%}"
        for name, share in shares.items()
        if share > RESOLUTION_SHARE * MARGIN
    )


def find_busy_machine(launches: Sequence[Launch], clock: Clock, min_clean_share: float) -> str:
    """Why the machine was too busy for its figures to be believed; "" if it was not."""
    share = latency(launches, clock).clean_share if launches and not summarize(launches) else None
    if share is None or share >= min_clean_share:
        return ""
    return f"only {share:.0%} of the samples ran without waiting for a CPU"
