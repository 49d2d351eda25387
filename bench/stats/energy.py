"""Energy windows -> joules of one input above idle, or the reason there is no such figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.records import PENDING, EnergyWindow, Launch
from bench.stats.intervals import Estimate, mean_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """The figures from the windows of one meter.

    `joules`: of one input, idle power subtracted, with an interval over windows; None with `reason`.
    `watts`: mean power over the windows, idle included; `idle_watts`: the power that was subtracted.
    """

    joules: Estimate | None
    watts: float | None
    idle_watts: float | None
    source: str
    reason: str = ""


def energy_of(launches: Sequence[Launch], batch: int) -> Energy | None:
    """The energy by the first meter that gives a figure, else by the first meter; None where no meter was read.

    Meters are never summed: their domains overlap (a GPU's counter and its board's).
    """
    windows = [window for launch in launches for window in launch.energy]
    sources = list(dict.fromkeys(window.source for window in windows))
    by_source = ([window for window in windows if window.source == source] for source in sources)
    found = [energy_per_inference(of_one, batch) for of_one in by_source]
    return next((energy for energy in found if energy.joules), found[0] if found else None)


def energy_per_inference(windows: Sequence[EnergyWindow], batch: int = 1) -> Energy:
    """(joules - idle_watts * seconds) / inputs over all windows, idle_watts from each one's own idle window.

    A window counts inferences of whole batches; the figure is for one input, as in the throughput.

    There is no figure where the meter counted nothing, the net energy is not above zero, or its interval over 3 or more windows holds zero:
    this meter cannot separate the work from idling. ValueError: windows of several meters, whose counters may
    overlap and must not be summed.
    """
    if not windows:
        return Energy(joules=None, watts=None, idle_watts=None, source="", reason="no energy window was read")
    source = windows[0].source
    if any(window.source != source for window in windows):
        raise ValueError(f"windows of several meters: {sorted({window.source for window in windows})}")
    if source == PENDING:
        reason = "the external meter's trace was not given yet: pressbench energy TRACE"
        return Energy(joules=None, watts=None, idle_watts=None, source="external", reason=reason)
    usable = [window for window in windows if window.seconds > 0 and window.idle_seconds > 0 and window.inferences > 0]
    if not usable:
        return Energy(joules=None, watts=None, idle_watts=None, source=source, reason="every energy window is empty")
    return sum_windows(usable, batch)


def sum_windows(windows: Sequence[EnergyWindow], batch: int) -> Energy:
    """The figures from windows of one meter, none of which is empty."""
    source = windows[0].source
    seconds = sum(window.seconds for window in windows)
    watts = sum(window.joules for window in windows) / seconds
    idle = sum(idle_watts(window) * window.seconds for window in windows) / seconds
    spread = mean_interval([net_joules(window) / (batch * window.inferences) for window in windows])
    value = sum(net_joules(window) for window in windows) / (batch * sum(window.inferences for window in windows))
    if watts <= 0:
        reason = "the meter stood still: it counted nothing while the model ran"
        return Energy(joules=None, watts=None, idle_watts=None, source=source, reason=reason)
    if value <= 0 or (spread.low is not None and spread.low <= 0):
        reason = f"below the meter's resolution: {watts:.3g} W at work, {idle:.3g} W idle"
        return Energy(joules=None, watts=watts, idle_watts=idle, source=source, reason=reason)
    return Energy(joules=widen_interval(value, spread), watts=watts, idle_watts=idle, source=source)


def idle_watts(window: EnergyWindow) -> float:
    """Mean power of the idle windows before and after this one."""
    return (window.idle_joules + window.after_joules) / (window.idle_seconds + window.after_seconds)


def resolution_share(windows: Sequence[EnergyWindow]) -> float:
    """The meter's resolution over the energy above idle, of all windows; 0 where nothing is above idle."""
    usable = [window for window in windows if window.seconds > 0 and window.idle_seconds > 0]
    net = sum(net_joules(window) for window in usable)
    return sum(window.resolution_j for window in usable) / net if net > 0 else 0.0


def net_joules(window: EnergyWindow) -> float:
    """Energy of the window beyond what idling as long would have used."""
    return window.joules - idle_watts(window) * window.seconds


def widen_interval(value: float, spread: Estimate) -> Estimate:
    """`value` with the interval of `spread`, widened to hold it (windows may differ in length)."""
    if spread.low is None or spread.high is None:
        return Estimate(value=value, low=None, high=None, n=spread.n)
    low, high = np.minimum(spread.low, value), np.maximum(spread.high, value)
    return Estimate(value=value, low=float(low), high=float(high), n=spread.n)
