"""Meters that count a fixed power; their file system is never asked."""

from __future__ import annotations

import time
from time import perf_counter_ns

from bench.device.meters.base import NO_OPTIONS, Condition, Meter, Reading


class Steady(Meter):
    """1 W idle and 10 W more for every second of this process on a CPU."""

    name = "steady"
    source = "measured:steady"
    covers = "a process"
    min_window_s = 0.02
    watts = 1.0

    @classmethod
    def open(cls, root, options=NO_OPTIONS):
        return cls()

    def read(self):
        busy = time.process_time()
        return Reading(joules=self.watts * perf_counter_ns() / 1e9 + 10 * busy, at_ns=perf_counter_ns())


class Other(Steady):
    """Another domain that holds the first."""

    name = "other"
    source = "measured:other"
    watts = 2.0


class Throttled(Steady):
    """Held back since the last look, always."""

    name = "throttled"
    source = "measured:throttled"

    def condition(self):
        return Condition(distrust=("slowed down by its fan",))
