"""Energy windows: an idle one, then a busy one, by every meter that opens."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.device.meters.base import Meter
from bench.device.timing import Run
from bench.errors import Unavailable
from bench.types import Json

Send = Callable[..., None]
BUSY_CHUNK_S = 0.05


def open_meters(paths: Sequence[str], root: Path, send: Send) -> list[Meter]:
    """The meters that open; each that does not is an event with the reason."""
    meters: list[Meter] = []
    for path in paths:
        module, _, name = path.partition(":")
        kind: type[Meter] = getattr(importlib.import_module(module), name)
        try:
            meters.append(kind.open(root))
        except Unavailable as error:
            send("meter", name=kind.name, reason=str(error))
    return meters


def energy_windows(meters: Sequence[Meter], run: Run, busy_s: float) -> Iterator[dict[str, Json]]:
    """One window a meter, as the fields of `EnergyWindow` and what the meter distrusts.

    `busy_s` is the least length of the busy window; a meter's own minimum prevails. The bound
    inference runs back to back meanwhile; the window's seconds are between the meter's readings.
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
        yield {
            "meter": meter.name,
            "source": meter.source,
            "joules": end.joules - start.joules,
            "seconds": (end.at_ns - start.at_ns) / 1e9,
            "inferences": inferences,
            "idle_joules": idle_end.joules - idle_start.joules,
            "idle_seconds": (idle_end.at_ns - idle_start.at_ns) / 1e9,
            "notes": {"before": dict(before.notes), "after": dict(after.notes)},
            "distrust": sorted({*before.distrust, *slowed, *after.distrust}),
        }


def _busy(run: Run, seconds: float, meter: Meter) -> tuple[int, set[str]]:
    """Runs for `seconds`: how often, and what slowed it. Reads clock and meter about every 50 ms, not every inference.

    The meter is asked amid the work: after it, `read` waits for the counter and the device has long recovered.
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
