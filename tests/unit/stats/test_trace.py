"""Windows put onto a trace: by the clock, or by the work that stands out in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.errors import InvalidInput
from bench.formats.power_trace import Trace, integrate
from bench.records import PENDING, EnergyWindow
from bench.stats import energy_of
from bench.stats.energy import energy_per_inference
from bench.stats.trace import fill_windows

BEGAN_S = 1_764_300_000.0


def marked(start_s: float) -> EnergyWindow:
    """Idle 2 s, 100 inferences in 3 s, idle 2 s."""
    marks = [start_s, start_s + 2, start_s + 2, start_s + 5, start_s + 5, start_s + 7]
    return EnergyWindow(
        meter="external",
        source=PENDING,
        joules=0.0,
        seconds=3.0,
        inferences=100,
        idle_joules=0.0,
        idle_seconds=2.0,
        after_seconds=2.0,
        marks_ns=tuple(round((BEGAN_S + mark) * 1e9) for mark in marks),
    )


def recorded(*busy: tuple[float, float], began_s: float = 0.0, noise: float = 0.0) -> Trace:
    """40 s at 1 kHz: 1 W, and 3 W between each pair of seconds."""
    seconds = np.arange(40_000) / 1000
    watts = 1.0 + 2.0 * sum(((seconds >= low) & (seconds < high)) for low, high in busy)
    watts += noise * np.random.default_rng(0).standard_normal(len(seconds))
    return Trace(seconds=seconds + began_s, joules=integrate(seconds, watts), absolute=began_s > 0)


def test_a_trace_on_the_same_clock_gives_the_joules_by_hand():
    (window,) = fill_windows([marked(10)], recorded((12, 15), began_s=BEGAN_S), search=False)
    assert window.joules == pytest.approx(9.0, rel=1e-3)
    assert (window.idle_joules, window.after_joules) == pytest.approx((2.0, 2.0), rel=1e-3)
    found = energy_per_inference([window])
    assert found.source == "measured:external"
    assert found.joules is not None
    assert found.joules.value == pytest.approx(2.0 * 3.0 / 100, rel=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_trace_without_a_clock_is_put_where_the_work_stands_out(noise):
    trace = recorded((4.3, 5.1), (7.25, 10.25), (20.25, 23.25), noise=noise)  # loading, then two windows
    windows = fill_windows([marked(100), marked(113)], trace, search=False)
    assert [window.joules for window in windows] == pytest.approx([9.0, 9.0], rel=0.01)
    assert windows[0].notes["shift_s"] == pytest.approx(BEGAN_S + 102 - 7.25, abs=0.005)


def test_clocks_that_differ_are_found_by_search():
    trace = recorded((13.5, 16.5), began_s=BEGAN_S)
    (window,) = fill_windows([marked(10)], trace, search=True)
    assert window.joules == pytest.approx(9.0, rel=1e-3)


@pytest.mark.parametrize(
    ("trace", "search", "words"),
    [
        (recorded((2, 5), began_s=BEGAN_S + 20), False, "record the whole run"),
        (Trace(seconds=np.array([0.0, 1.0]), joules=np.array([0.0, 1.0]), absolute=False), True, "is 1.0 s long"),
        (recorded(), True, "does not stand out"),
    ],
)
def test_a_trace_that_does_not_hold_the_windows_says_why(trace, search, words):
    with pytest.raises(InvalidInput, match=words):
        fill_windows([marked(10)], trace, search=search)


def test_a_window_in_which_the_meter_lost_samples_is_refused_unless_it_counted_the_energy_itself():
    """The work fell into the gap: the line across it would be the energy of idling."""
    whole = recorded((12, 15), began_s=BEGAN_S)
    kept = (whole.seconds < BEGAN_S + 12) | (whole.seconds >= BEGAN_S + 15)
    lost = replace(whole, seconds=whole.seconds[kept], joules=whole.joules[kept])
    with pytest.raises(InvalidInput, match="the meter lost samples"):
        fill_windows([marked(10)], lost, search=False)
    (window,) = fill_windows([marked(10)], replace(lost, counted=True), search=False)
    assert window.joules == pytest.approx(9.0, rel=1e-3)


def test_samples_that_are_missing_where_no_energy_is_taken_from_are_no_fault():
    """Between idling and work a busy window that was too short lies, and none of its joules counts."""
    whole = recorded((12, 15), began_s=BEGAN_S)
    marks = [10, 12, 12, 15, 20, 22]
    window = replace(marked(0), marks_ns=tuple(round((BEGAN_S + mark) * 1e9) for mark in marks))
    kept = (whole.seconds < BEGAN_S + 16) | (whole.seconds >= BEGAN_S + 19)
    lost = replace(whole, seconds=whole.seconds[kept], joules=whole.joules[kept])
    (found,) = fill_windows([window], lost, search=False)
    assert (found.joules, found.after_joules) == pytest.approx((9.0, 2.0), rel=1e-3)
    kept = (whole.seconds < BEGAN_S + 16) | (whole.seconds >= BEGAN_S + 20.5)
    with pytest.raises(InvalidInput, match="the meter lost samples"):
        fill_windows([window], replace(whole, seconds=whole.seconds[kept], joules=whole.joules[kept]), search=False)


def test_windows_that_wait_give_no_figure_and_name_the_command():
    found = energy_per_inference([marked(0)])
    assert found.joules is None
    assert "pressbench energy TRACE" in found.reason
    assert energy_of([], 1) is None
