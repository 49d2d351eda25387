"""The distribution of a cell's samples as bars of a small picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.records import Record
from bench.report.text import number
from bench.types import Clock

BARS = 40
WIDTH, HEIGHT = 400.0, 70.0
BEYOND = 99.0
"""The percentile up to which the bars reach; how many samples lie beyond is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars (x, y, width, height) in a box of `WIDTH` by `HEIGHT`, the ends of the scale, and what it shows in words."""

    bars: list[tuple[float, float, float, float]]
    low: str
    high: str
    text: str


def draw_samples(record: Record) -> Histogram | None:
    """All samples of all launches by the clock that counts; None without any."""
    device = record.clock is Clock.DEVICE
    kept = [np.asarray(launch.device_ns if device else launch.samples_ns, dtype=float) for launch in record.launches]
    kept = [values for values in kept if values.size]
    if record.clock is Clock.SIMULATED or not kept:
        return None
    every = np.concatenate(kept) / 1e6
    top = float(np.percentile(every, BEYOND))
    low = float(every.min())
    counts, _ = np.histogram(every[every <= top], bins=BARS, range=(low, top if top > low else low + 1e-6))
    step, most = WIDTH / BARS, max(1, int(counts.max()))
    bars = [
        (round(i * step, 1), round(HEIGHT * (1 - n / most), 1), round(step - 1, 1), round(HEIGHT * n / most, 1))
        for i, n in enumerate(counts.tolist())
        if n
    ]
    beyond = int((every > top).sum())
    medians = ", ".join(number(float(np.median(values)) / 1e6) for values in kept)
    return Histogram(
        bars=bars,
        low=f"{number(low)} ms",
        high=f"{number(top)} ms",
        text=f"{every.size} samples of {len(kept)} launches; medians {medians} ms; {beyond} lie beyond {number(top)} ms"
        f", up to {number(float(every.max()))} ms",
    )
