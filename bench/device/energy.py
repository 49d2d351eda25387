"""Energy windows: an idle one, then a busy one, for every meter that opens."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.device.events import EnergyRead, MeterMissing
from bench.device.meters.base import Meter
from bench.device.timing import Inference
from bench.errors import Unavailable
from bench.records import EnergyWindow

BUSY_CHUNK_S = 0.05


def open_meters(paths: Sequence[str], root: Path, send: Callable[[MeterMissing], None]) -> list[Meter]:
    """The meters that open. Sends an event with the reason for each one that does not."""
    meters: list[Meter] = []
    for path in paths:
        module, _, name = path.partition(":")
        kind: type[Meter] = getattr(importlib.import_module(module), name)
        try:
            meters.append(kind.open(root))
        except Unavailable as error:
            send(MeterMissing(name=kind.name, reason=str(error)))
    return meters


def energy_windows(meters: Sequence[Meter], run: Inference, busy_s: float) -> Iterator[EnergyRead]:
    """One window per meter, and why the meter distrusts it.

    `busy_s`: the least length of the busy window, unless the meter needs more. The bound inference runs back to back
    during it. The window's seconds are those between the meter's readings.
    """
    for meter in meters:
        seconds = max(busy_s, meter.min_window_s)
        idle_start = meter.read()
        time.sleep(meter.min_window_s)
        idle_end = meter.read()
        before = meter.condition()
        start = meter.read()
        inferences, slowed = _busy(run, seconds, meter)
        end = meter.read()
        after = meter.condition()
        window = EnergyWindow(
            meter=meter.name,
            source=meter.source,
            joules=end.joules - start.joules,
            seconds=(end.at_ns - start.at_ns) / 1e9,
            inferences=inferences,
            idle_joules=idle_end.joules - idle_start.joules,
            idle_seconds=(idle_end.at_ns - idle_start.at_ns) / 1e9,
            notes={"before": dict(before.notes), "after": dict(after.notes)},
        )
        yield EnergyRead(window=window, distrust=tuple(sorted({*before.distrust, *slowed, *after.distrust})))


def _busy(run: Inference, seconds: float, meter: Meter) -> tuple[int, set[str]]:
    """Runs for `seconds`: how often, and what slowed it. Reads clock and meter about every 50 ms, not every inference.

    Asks the meter during the work: afterwards `read` waits for the counter, and the device has recovered.
    """
    start = time.perf_counter()
    run()
    chunk = max(1, math.ceil(BUSY_CHUNK_S / max(time.perf_counter() - start, 1e-7)))
    done, slowed = 1, set(meter.slowed())
    while time.perf_counter() - start < seconds:
        for _ in range(chunk):
            run()
        done += chunk
        slowed.update(meter.slowed())
    return done, slowed
