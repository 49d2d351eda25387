"""Puts windows that a worker marked onto the power trace of an external meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.formats.power_trace import Trace
from bench.records import PENDING, EnergyWindow

MEASURED = "measured:external"
STEP_S = 0.01
FINE_STEP_S = 0.0005
GAP_STEPS, GAP_SHARE = 10, 0.02
"""A time without a sample is a gap where it is longer than so many usual steps, and than such a share of the window."""
STANDS_OUT = 0.01
"""Work is found in a trace where its power is this share of the mean power above idling."""


def fill_windows(windows: Sequence[EnergyWindow], trace: Trace, *, search: bool) -> tuple[EnergyWindow, ...]:
    """The windows that wait for a trace, with their joules; the others as they are.

    `search`: find how far the two clocks differ from the trace itself; always where its times are not absolute.
    Raises `InvalidInput` where the trace does not hold a window, or has a gap in one.
    """
    waiting = [window for window in windows if window.source == PENDING and len(window.marks_ns) == 6]
    if not waiting:
        return tuple(windows)
    shift = find_shift(waiting, trace) if search or not trace.absolute else 0.0
    return tuple(fill_window(window, trace, shift) if window.source == PENDING else window for window in windows)


def fill_window(window: EnergyWindow, trace: Trace, shift_s: float) -> EnergyWindow:
    """Energy between the marks; a trace's clock plus `shift_s` is the marks' clock."""
    marks = np.array(window.marks_ns) / 1e9 - shift_s
    if marks[0] < trace.seconds[0] or marks[-1] > trace.seconds[-1]:
        raise InvalidInput(
            f"the trace holds {trace.seconds[0]:.1f} to {trace.seconds[-1]:.1f} s, the window is at {marks[0]:.1f} to "
            f"{marks[-1]:.1f} s: record the whole run, with the clocks set"
        )
    joules = np.interp(marks, trace.seconds, trace.joules)
    spent = joules[1::2] - joules[::2]
    steps = np.diff(trace.seconds)
    tick_s = float(np.median(steps))
    taken = (trace.seconds[:-1, None] < marks[1::2]) & (trace.seconds[1:, None] > marks[::2])
    across = taken.any(axis=1) & (steps > max(GAP_STEPS * tick_s, GAP_SHARE * window.seconds))
    if across.any() and not trace.counted:
        at = int(np.argmax(across))
        raise InvalidInput(
            f"the trace has no sample between {trace.seconds[at]:.3f} and {trace.seconds[at + 1]:.3f} s, and the window is at "
            f"{marks[0]:.1f} to {marks[-1]:.1f} s: the meter lost samples, so its energy there is not known: record it again"
        )
    net = spent[1] - (spent[0] + spent[2]) / (window.idle_seconds + window.after_seconds) * window.seconds
    return replace(
        window,
        source=MEASURED,
        idle_joules=float(spent[0]),
        joules=float(spent[1]),
        after_joules=float(spent[2]),
        resolution_j=2 * max(0.0, float(net)) / window.seconds * tick_s,
        notes={**window.notes, "shift_s": shift_s, "samples_per_s": 1 / tick_s},
    )


def find_shift(windows: Sequence[EnergyWindow], trace: Trace) -> float:
    """Seconds from the trace's clock to the marks', where the work stands out most from the idling around it.

    Every moved edge mixes idling into the work and work into the idling, so the difference of their mean powers is
    largest where they fit. Tries every 10 ms that keeps all windows inside the trace, then every 0.5 ms.
    """
    marks = np.array([window.marks_ns for window in windows]) / 1e9
    low, high = float(marks.max() - trace.seconds[-1]), float(marks.min() - trace.seconds[0])
    if low > high:
        raise InvalidInput(
            f"the trace is {trace.seconds[-1] - trace.seconds[0]:.1f} s long, the marks span "
            f"{marks.max() - marks.min():.1f} s: record the whole run"
        )
    coarse = np.arange(low, high + STEP_S, STEP_S)
    best = float(coarse[np.argmax(_contrasts(coarse, marks, trace))])
    fine = np.arange(max(low, best - 2 * STEP_S), min(high, best + 2 * STEP_S) + FINE_STEP_S, FINE_STEP_S)
    contrasts = _contrasts(fine, marks, trace)
    mean_watts = float(trace.joules[-1] / (trace.seconds[-1] - trace.seconds[0]))
    if contrasts.max() <= STANDS_OUT * mean_watts * len(windows):
        raise InvalidInput("the work does not stand out from idling anywhere in the trace: is the meter on this board?")
    return float(fine[np.argmax(contrasts)])


def _contrasts(shifts: NDArray[np.float64], marks: NDArray[np.float64], trace: Trace) -> NDArray[np.float64]:
    """Watts at work less watts idle, summed over the windows, for each shift."""
    total = np.zeros(len(shifts))
    for window in marks:
        joules = np.interp(window[None, :] - shifts[:, None], trace.seconds, trace.joules)
        spent, lasted = joules[:, 1::2] - joules[:, ::2], window[1::2] - window[::2]
        total += spent[:, 1] / lasted[1] - (spent[:, 0] + spent[:, 2]) / (lasted[0] + lasted[2])
    return total
