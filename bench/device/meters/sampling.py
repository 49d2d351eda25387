"""A power that is sampled in a thread and integrated by the trapezoid rule."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from time import perf_counter_ns

from bench.device.meters.base import Meter, Reading
from bench.errors import Unavailable


class Sampler:
    """Joules of a power in watts, counted between `resume` and `pause`.

    Joules between two samples: (w0 + w1) / 2 * (t1 - t0). The thread leaves the CPUs that the worker is pinned to,
    where the machine has others. `read` takes a sample too, so a window begins and ends with one.
    """

    def __init__(
        self, watts: Callable[[], float], period_s: float, *, now: Callable[[], int] = perf_counter_ns
    ) -> None:
        self._watts, self._period_s, self._now = watts, period_s, now
        self._joules = 0.0
        self._last: tuple[int, float] | None = None
        self._error: Unavailable | None = None
        self._lock, self._stop = Lock(), Event()
        self._thread: Thread | None = None

    def resume(self) -> None:
        """Starts sampling. Time before this moment is not counted."""
        self._last, self._error = None, None
        self._stop.clear()
        self._thread = Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stops sampling and waits for the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._thread, self._last = None, None

    def read(self) -> Reading:
        """Joules so far. Raises `Unavailable` if a sample could not be read since `resume`."""
        if self._error:
            raise self._error
        at_ns = self.take()
        return Reading(joules=self._joules, at_ns=at_ns)

    def take(self) -> int:
        """One sample now; returns its time. Raises what reading the power raises."""
        with self._lock:
            watts, at_ns = self._watts(), self._now()
            if not math.isfinite(watts):
                raise Unavailable(f"the meter gave {watts:g} W: name another sensor")
            if self._last:
                before_ns, before = self._last
                self._joules += (before + watts) / 2 * (at_ns - before_ns) / 1e9
            self._last = (at_ns, watts)
            return at_ns

    def _go_on(self) -> None:
        leave_pinned_cpus()
        try:
            while not self._stop.wait(self._period_s):
                self.take()
        except Unavailable as error:
            self._error = error


class SampledMeter(Meter):
    """A meter whose joules are those of a `Sampler`."""

    def __init__(self, watts: Callable[[], float], period_s: float) -> None:
        self._sampler = Sampler(watts, period_s)

    def read(self) -> Reading:
        """Joules between `resume` and `pause`. Raises `Unavailable` if a sample could not be read."""
        return self._sampler.read()

    def resume(self) -> None:
        """Starts sampling."""
        self._sampler.resume()

    def pause(self) -> None:
        """Stops sampling."""
        self._sampler.pause()


def leave_pinned_cpus() -> None:
    """Moves this thread to the CPUs that its process is not pinned to. Stays where there are none, or none is allowed."""
    if sys.platform == "linux":
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        with suppress(OSError):
            os.sched_setaffinity(0, others)
