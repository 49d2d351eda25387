"""Energy windows: idle, busy, idle again, for every meter that opens."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.device.events import EnergyRead, MeterMissing
from bench.device.job import MeterChoice
from bench.device.meters.base import Meter, Reading
from bench.device.timing import Inference
from bench.errors import Unavailable
from bench.records import EnergyWindow

BUSY_CHUNK_S = 0.05
RESOLUTION_SHARE = 0.02
"""A busy window is stretched until the meter's resolution is at most this share of its energy above idle."""
LONGEST_BUSY_S = 30.0
MARGIN = 1.2


def open_meters(choices: Sequence[MeterChoice], root: Path, send: Callable[[MeterMissing], None]) -> list[Meter]:
    """The meters that open. Sends an event with the reason for each one that does not."""
    meters: list[Meter] = []
    for choice in choices:
        module, _, name = choice.path.partition(":")
        kind: type[Meter] = getattr(importlib.import_module(module), name)
        try:
            meters.append(kind.open(root, choice.options))
        except Unavailable as error:
            send(MeterMissing(name=kind.name, reason=str(error)))
    return meters


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a meter counted between two readings; `marks_ns`: when, in ns since 1970 by this machine's clock."""

    joules: float
    seconds: float
    marks_ns: tuple[int, int]

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds if self.seconds > 0 else 0.0


def energy_windows(meters: Sequence[Meter], run: Inference, busy_s: float) -> Iterator[EnergyRead | MeterMissing]:
    """One window per meter, and why the meter distrusts it; for a meter that fails meanwhile, the reason.

    `busy_s`: the least length of the busy window, unless the meter needs more. The bound inference runs back to back
    during it. The window's seconds are those between the meter's readings.
    """
    return (_try_window(meter, run, busy_s) for meter in meters)


def _try_window(meter: Meter, run: Inference, busy_s: float) -> EnergyRead | MeterMissing:
    try:
        meter.resume()
        return read_window(meter, run, busy_s)
    except Unavailable as error:
        return MeterMissing(name=meter.name, reason=str(error))
    finally:
        meter.pause()


def read_window(meter: Meter, run: Inference, busy_s: float) -> EnergyRead:
    """Idle, busy, idle. A busy window too short for the meter's resolution is repeated, longer."""
    idle = _span(meter, lambda: time.sleep(meter.min_window_s))
    before = meter.condition()
    seconds = max(busy_s, meter.min_window_s)
    busy, inferences, slowed = _busy(run, seconds, meter)
    wanted = stretch(meter, idle, busy)
    if wanted > busy.seconds:
        busy, inferences, slowed = _busy(run, min(wanted, LONGEST_BUSY_S), meter)
    after = meter.condition()
    rest = _span(meter, lambda: time.sleep(meter.min_window_s))
    _check_sign(idle, busy, rest)
    window = EnergyWindow(
        meter=meter.name,
        source=meter.source,
        joules=busy.joules,
        seconds=busy.seconds,
        inferences=inferences,
        idle_joules=idle.joules,
        idle_seconds=idle.seconds,
        after_joules=rest.joules,
        after_seconds=rest.seconds,
        resolution_j=find_resolution(meter, idle.seconds + rest.seconds, busy, _net_watts(busy, idle, rest)),
        marks_ns=(*idle.marks_ns, *busy.marks_ns, *rest.marks_ns),
        notes={"before": dict(before.notes), "after": dict(after.notes)},
    )
    return EnergyRead(window=window, distrust=tuple(sorted({*before.distrust, *slowed, *after.distrust})))


def _check_sign(*spans: Span) -> None:
    """Raises `Unavailable` where more power is negative than positive. A sensor's zero may be off by a little while idle."""
    joules, seconds = sum(span.joules for span in spans), sum(span.seconds for span in spans)
    if joules < 0:
        raise Unavailable(
            f"the meter gave {joules / seconds:.3g} W on average: a device takes 0 W or more; turn the sensor's direction, or "
            "name another"
        )


def stretch(meter: Meter, idle: Span, busy: Span) -> float:
    """Seconds that the busy window needs, or 0 where it is long enough or no length helps.

    Above idle, P watts for T seconds are P T joules; both ends together cost `find_resolution`.
    """
    watts = _net_watts(busy, idle)
    if watts <= 0:
        return 0.0
    fixed = 2 * meter.step_j + 2 * watts * meter.tick_s
    per_second = watts * RESOLUTION_SHARE - 2 * meter.step_j / (2 * idle.seconds)
    if find_resolution(meter, 2 * idle.seconds, busy, watts) <= RESOLUTION_SHARE * watts * busy.seconds:
        return 0.0
    return MARGIN * fixed / per_second if per_second > 0 else LONGEST_BUSY_S


def find_resolution(meter: Meter, idle_s: float, busy: Span, watts: float) -> float:
    """Joules by which the window may be off: a step and a tick at each end, and the steps of idling, scaled to it."""
    return 2 * meter.step_j + 2 * max(watts, 0.0) * meter.tick_s + 2 * meter.step_j * busy.seconds / idle_s


def _net_watts(busy: Span, *idle: Span) -> float:
    return busy.watts - sum(span.joules for span in idle) / sum(span.seconds for span in idle)


def _span(meter: Meter, work: Callable[[], object]) -> Span:
    start, began = meter.read(), time.time_ns()
    work()
    return _between(start, meter.read(), began)


def _between(start: Reading, end: Reading, began_ns: int) -> Span:
    lasted_ns = end.at_ns - start.at_ns
    return Span(joules=end.joules - start.joules, seconds=lasted_ns / 1e9, marks_ns=(began_ns, began_ns + lasted_ns))


def _busy(run: Inference, seconds: float, meter: Meter) -> tuple[Span, int, set[str]]:
    """Runs for `seconds`: what was counted, how often it ran, and what slowed it.

    Reads the clock and asks the meter about every 50 ms, not every inference. Asks during the work: afterwards `read`
    waits for the counter, and the device has recovered.
    """
    first, began = meter.read(), time.time_ns()
    start = time.perf_counter()
    run()
    chunk = max(1, math.ceil(BUSY_CHUNK_S / max(time.perf_counter() - start, 1e-7)))
    done, slowed = 1, set(meter.slowed())
    while time.perf_counter() - start < seconds:
        for _ in range(chunk):
            run()
        done += chunk
        slowed.update(meter.slowed())
    return _between(first, meter.read(), began), done, slowed
