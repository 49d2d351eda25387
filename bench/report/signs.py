"""The signs, words and terminal colours that stand for statuses, verdicts and clocks, each in one place.

The page's own colours of statuses and verdicts are in page.css, under classes of the same names.
"""

from __future__ import annotations

from bench.types import Clock, Status

NO_DIFFERENCE = "no difference shown"
"""In place of a winner where the intervals of two runtimes overlap."""
MARKS = {
    Status.OK: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "○",
    Status.UNTRUSTED: "!",
    Status.INCONCLUSIVE: "?",
}
TERMINAL_STYLES = {
    Status.OK: "green",
    Status.FAILED: "red",
    Status.SKIPPED: "dim",
    Status.UNTRUSTED: "yellow",
    Status.INCONCLUSIVE: "yellow",
}
VERDICTS = {"faster": "▲", "slower": "▼", "same": "=", "inconclusive": "?"}
"""Verdict of `bench.stats.Ratio` -> its sign."""
VERDICT_STYLES = {"faster": "green", "slower": "red", "same": "dim", "inconclusive": "yellow"}
"""Verdict -> its colour in a terminal."""
CLOCKS = {
    Clock.HOST: "measured",
    Clock.DEVICE: "measured by the device's own clock",
    Clock.SIMULATED: "simulated",
}
