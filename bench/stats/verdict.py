"""The one place that decides whether a ratio with an interval is faster, slower, the same, or not known."""

from __future__ import annotations

from typing import Literal

from bench.records import SMALLEST_EFFECT

Verdict = Literal["faster", "slower", "same", "inconclusive"]


def decide_verdict(low: float | None, high: float | None, smallest_effect: float = SMALLEST_EFFECT) -> Verdict:
    """The verdict on a time from the interval of its ratio to another time; above 1 is slower.

    An effect counts only where the whole interval lies beyond the smallest effect of interest, 1/(1 + e) .. 1 + e for
    the share e: "slower" above it, "faster" below it. "same": the whole interval lies within (equivalence by
    intervals, Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987). Else, or without an interval,
    "inconclusive". The bounds mirror each other, so ratio and inverse agree.
    """
    if low is None or high is None:
        return "inconclusive"
    bound = 1 + smallest_effect
    if low > bound:
        return "slower"
    if high * bound < 1:
        return "faster"
    return "same" if low * bound >= 1 and high <= bound else "inconclusive"
