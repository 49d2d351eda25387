"""Windows of a sustained run -> the latency after heat has settled, and when that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.records import SustainedWindow

LEAST_WINDOWS = 6
STEADY = 0.02
"""The end is settled when the medians of its two halves differ by at most this share."""
NEAR = 0.05
"""A window belongs to the settled part when its median is within this share of the settled one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """`first_ms`: median of the first window. `settled_ms`: of the last third of the windows, from `after_s` on; None
    with the `reason`."""

    first_ms: float
    settled_ms: float | None = None
    after_s: float | None = None
    reason: str = ""


def settle(windows: Sequence[SustainedWindow]) -> Sustained | None:
    """None without windows. A window's figure is its median latency."""
    if not windows:
        return None
    medians = [window.p50_ns / 1e6 for window in windows]
    first = medians[0]
    if len(windows) < LEAST_WINDOWS:
        return Sustained(first_ms=first, reason=f"the sustained run has only {len(windows)} windows: raise sustain_s")
    last = medians[-(len(medians) // 3) :]
    half = len(last) // 2
    change = median(last[-half:]) / median(last[:half]) - 1
    if abs(change) > STEADY:
        return Sustained(
            first_ms=first, reason=f"latency still changed by {change:+.1%} at the end of the run: raise sustain_s"
        )
    settled = median(last)
    return Sustained(first_ms=first, settled_ms=settled, after_s=_find_start(windows, settled))


def _find_start(windows: Sequence[SustainedWindow], settled_ms: float) -> float:
    """Where the last stretch begins in which two windows in a row are never far from the settled latency."""
    far = [abs(window.p50_ns / 1e6 / settled_ms - 1) > NEAR for window in windows]
    two = [place for place in range(1, len(far)) if far[place] and far[place - 1]]
    if not two:
        return 0.0
    last = windows[two[-1]]
    return last.start_s + last.seconds
