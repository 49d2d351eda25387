"""Windows of energy: integration by hand, the resolution that stretches them, meters that fail on the way."""

from __future__ import annotations

import math
import re
import time

import pytest

from bench.device import energy
from bench.device.energy import LONGEST_BUSY_S, RESOLUTION_SHARE, Span, energy_windows, find_resolution, stretch
from bench.device.events import EnergyRead, MeterMissing
from bench.device.meters.base import Meter, Reading
from bench.device.meters.sampling import SampledMeter, Sampler
from bench.errors import Unavailable


class Clock:
    """A clock and a power over its time, both by hand."""

    def __init__(self, watts):
        self.seconds, self.watts = 0.0, watts

    def now(self):
        return round(self.seconds * 1e9)

    def power(self):
        return self.watts(self.seconds)


class Counting(Meter):
    """2 W idle and 4 W more while it runs, in steps of `step_j`."""

    name, source, covers, min_window_s = "counting", "measured:counting", "a process", 0.02

    def __init__(self, step_j=0.0):
        self.step_j, self.calls = step_j, []

    @classmethod
    def open(cls, root, options=None):
        return cls()

    def resume(self):
        self.calls.append("resume")

    def pause(self):
        self.calls.append("pause")

    def read(self):
        return Reading(joules=2.0 * time.perf_counter() + 4.0 * time.process_time(), at_ns=time.perf_counter_ns())


@pytest.mark.parametrize(
    ("watts", "joules"),
    [
        (lambda _: 3.0, 30.0),
        (lambda t: 1.0 + 0.4 * t, 10.0 + 0.2 * 100),
        (lambda t: 5.0 + 2.0 * math.sin(2 * math.pi * t), 50.0),
        (lambda t: 2.0 if t < 4 else 7.0, 2.0 * 4 + 7.0 * 6),
    ],
)
def test_a_trace_integrates_to_the_joules_by_hand(watts, joules):
    clock = Clock(watts)
    sampler = Sampler(clock.power, 1.0, now=clock.now)
    sampler.take()
    for _ in range(2000):
        clock.seconds += 0.005
        sampler.take()
    assert sampler.read().joules == pytest.approx(joules, rel=1e-3)


def test_a_sampler_counts_nothing_while_it_pauses():
    clock = Clock(lambda _: 1.0)
    sampler = Sampler(clock.power, 60.0, now=clock.now)
    for _ in range(2):
        sampler.resume()
        sampler.read()
        clock.seconds += 2.0
        found = sampler.read()
        sampler.pause()
        clock.seconds += 100.0
    assert found.joules == pytest.approx(4.0)


def test_a_sample_that_fails_in_the_thread_is_an_error_of_the_next_reading():
    calls = []

    def power():
        calls.append(1)
        raise Unavailable("the rail is gone")

    sampler = Sampler(power, 0.001)
    sampler.resume()
    while not calls:
        time.sleep(0.001)
    sampler.pause()
    with pytest.raises(Unavailable, match="the rail is gone"):
        sampler.read()


def test_a_sample_that_is_no_number_is_refused():
    with pytest.raises(Unavailable, match="the meter gave nan W: name another sensor"):
        Sampler(lambda: math.nan, 1.0).take()


def sampled(idle_watts: float, busy_watts: float) -> EnergyRead | MeterMissing:
    """The window of a meter whose power is sampled."""
    busy = []

    class Sensor(SampledMeter):
        name, source, covers, min_window_s = "sensor", "measured:sensor", "a board", 0.02

        @classmethod
        def open(cls, root, options=None):
            return cls(lambda: busy_watts if busy else idle_watts, 0.001)

    def work():
        busy.append(1)
        time.sleep(0.001)

    (read,) = energy_windows([Sensor.open(None)], work, 0.05)
    return read


def test_a_sensor_whose_zero_is_off_gives_joules_and_one_that_is_turned_gives_none():
    """A signed sensor reads a little below 0 W at idle; one such sample lost the whole window."""
    read = sampled(-0.002, 3.0)
    assert isinstance(read, EnergyRead)
    assert read.window.idle_joules < 0 < read.window.joules
    turned = sampled(-1.5, -3.0)
    assert isinstance(turned, MeterMissing)
    assert re.match(r"the meter gave -[23].* W on average: a device takes 0 W or more; turn the sensor", turned.reason)


def test_a_window_has_idle_before_and_after_and_marks_in_order():
    meter = Counting()
    (read,) = energy_windows([meter], lambda: sum(range(2000)), 0.05)
    assert isinstance(read, EnergyRead)
    window = read.window
    assert window.idle_seconds >= 0.02
    assert window.after_seconds >= 0.02
    assert list(window.marks_ns) == sorted(window.marks_ns)
    assert len(window.marks_ns) == 6
    assert meter.calls == ["resume", "pause"]


def test_a_busy_window_is_stretched_until_the_resolution_costs_two_percent(monkeypatch):
    monkeypatch.setattr(energy, "LONGEST_BUSY_S", 0.5)
    meter = Counting(step_j=0.002)  # 4 W * 0.05 s = 0.2 J: a step at each end is 2 % by itself
    idle, busy = (Span(joules=w * s, seconds=s, marks_ns=(0, 0)) for w, s in ((2.0, 1.0), (6.0, 0.05)))
    longer = stretch(meter, idle, busy)
    assert longer > busy.seconds
    stretched = Span(joules=6.0 * longer, seconds=longer, marks_ns=(0, 0))
    assert find_resolution(meter, 2.0, stretched, 4.0) <= RESOLUTION_SHARE * 4.0 * longer
    assert stretch(meter, idle, stretched) == 0.0
    (read,) = energy_windows([meter], lambda: sum(range(2000)), 0.05)
    assert isinstance(read, EnergyRead)
    assert read.window.seconds > 0.05


def test_a_meter_too_coarse_for_any_window_gets_the_longest_and_one_that_stands_still_none():
    meter = Counting(step_j=36.0)
    idle, busy = (Span(joules=w, seconds=1.0, marks_ns=(0, 0)) for w in (2.0, 6.0))
    assert stretch(meter, idle, busy) == LONGEST_BUSY_S
    assert stretch(meter, idle, Span(joules=0.0, seconds=1.0, marks_ns=(0, 0))) == 0.0


def test_a_meter_that_fails_in_its_window_is_a_reason_and_the_next_is_read():
    class Unplugged(Counting):
        name = "unplugged"

        def read(self):
            raise Unavailable("the charger is in")

    broken = Unplugged()
    first, second = energy_windows([broken, Counting()], lambda: None, 0.0)
    assert first == MeterMissing(name="unplugged", reason="the charger is in")
    assert isinstance(second, EnergyRead)
    assert broken.calls == ["resume", "pause"]
