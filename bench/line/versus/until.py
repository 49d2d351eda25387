"""Launches of a paired comparison until the ratio is known to a width, or the time is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log
from time import monotonic

from bench.records import PairLaunch
from bench.stats import Ratio, ratio
from bench.stats.intervals import MIN_LAUNCHES

FEWEST = 8
"""Launches before the width is looked at: from fewer their scatter is not known."""
GROWTH = 4
"""At least a quarter more launches between two looks: each look is a chance to stop on a scatter that is too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When launches end. `width`: half width of the interval of the ratio, as a share. `time_s`: seconds of all.

    `launches`: exactly so many instead, whatever their width. Never ends on the ratio itself, only on its width: the
    interval would miss more often than it says.
    """

    width: float
    time_s: float = 60.0
    launches: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The launches, their ratio, and why there are no more: "width", "time limit" or "launches"."""

    pairs: tuple[PairLaunch, ...]
    ratio: Ratio
    stopped: str
    seconds: float


def launch_until(
    launch: Callable[[int], PairLaunch],
    patience: Patience,
    *,
    threads: int,
    smallest_effect: float,
    progress: Callable[[float], None] = lambda _: None,
    now: Callable[[], float] = monotonic,
) -> Compared:
    """Calls `launch` with 0, 1, ... At least 3 times, so that there is an interval. Raises what `launch` raises."""
    begun, done = now(), list[PairLaunch]()
    wanted, stopped = patience.launches or FEWEST, ""
    while not stopped:
        progress(min(1.0, max(len(done) / wanted, (now() - begun) / patience.time_s if not patience.launches else 0.0)))
        done.append(launch(len(done)))
        late = now() - begun >= patience.time_s and patience.launches is None and len(done) >= MIN_LAUNCHES
        if late or len(done) >= wanted:
            half = half_width(ratio(done, threads=threads))
            stopped = _why_stop(half, patience, late=late)
            wanted = plan_launches(len(done), half, patience.width)
    return Compared(
        pairs=tuple(done),
        ratio=ratio(done, smallest_effect, threads=threads),
        stopped=stopped,
        seconds=now() - begun,
    )


def _why_stop(half: float, patience: Patience, *, late: bool) -> str:
    if patience.launches is not None:
        return "launches"
    if half <= patience.width:
        return "width"
    return "time limit" if late else ""


def half_width(found: Ratio) -> float:
    """Half width of the interval as a share of the ratio; infinite without an interval."""
    if found.low is None or found.high is None:
        return float("inf")
    return log(found.high / found.low) / 2


def plan_launches(launches: int, half: float, width: float) -> int:
    """How many launches give the width, from the half width of so many: it falls with their square root."""
    enough = ceil(launches * (half / width) ** 2) if half < float("inf") else 0
    return max(enough, launches + max(2, launches // GROWTH))


def launches_to_decide(found: Ratio, smallest_effect: float) -> int | None:
    """How many launches would give a verdict if the ratio stays where it is; None where none would.

    The interval must lie on one side of the nearest bound.
    """
    half, bound = half_width(found), log(1 + smallest_effect)
    apart = abs(abs(log(found.ratio)) - bound)
    if half == float("inf") or half == 0 or apart < bound / 20:
        return None
    return plan_launches(found.launches, half, apart)


def summarize(launches: Sequence[PairLaunch]) -> tuple[int, list[str]]:
    """How many launches began unsteady, and every reason not to believe them, once."""
    reasons = dict.fromkeys(reason for pair in launches for reason in pair.distrust)
    return sum(not pair.steady for pair in launches), list(reasons)
