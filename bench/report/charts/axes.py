"""What all plots share: a figure, axes, error bars, guide lines and the text under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from bench.report.cells import Cell
from bench.report.charts.legend import NEUTRAL
from bench.report.text import BYTE_UNITS, count, escape_name, interval, number, percent, signed, size, times
from bench.types import Json

NEAR = (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
"""Ticks of a logarithmic axis that spans less than a factor of 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot: its title and note, Plotly's data and layout, and its height in pixels."""

    title: str
    note: str
    data: list[Json]
    layout: Json
    height: int


def describe_cell(name: str, cell: Cell) -> str:
    """The text that appears under the pointer, lines joined by <br>."""
    within = interval(cell.figure("speedup_low"), cell.figure("speedup_high"))
    lines = [
        f"<b>{escape_name(name)}</b> ({cell.record.status.value})",
        escape_name(cell.record.model),
        f"latency {number(cell.figure('latency_p50_ms'))} ms",
        f"speed-up {times(cell.figure('speedup'))}{f' ({within})' if within and not cell.baseline else ''}",
        f"promised {times(cell.figure('promised_speedup'))}",
        describe_score(cell),
        f"file {size(cell.figure('file_bytes'))}, {count(cell.figure('macs'))} MACs",
    ]
    return "<br>".join(lines)


def describe_score(cell: Cell) -> str:
    """The accuracy, or the score of another task, and how much worse than the baseline's it is."""
    if cell.figure("accuracy") is None and cell.figure("score") is not None:
        worse = f" (drop {signed(cell.figure('score_drop'))})" if cell.figure("score_drop") is not None else ""
        return f"{escape_name(str(cell.row['score_name']))} {number(cell.figure('score'))}{worse}"
    return f"accuracy {percent(cell.figure('accuracy'))} (drop {signed(cell.figure('accuracy_drop_pp'))} pp)"


def error_bars(values: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> Json:
    """Error bars to both ends of each interval; of length 0 where there is no interval."""
    up = [0.0 if high is None else high - value for value, high in zip(values, highs, strict=True)]
    down = [0.0 if low is None else value - low for value, low in zip(values, lows, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": up,
        "arrayminus": down,
        "thickness": 1.2,
        "width": 3,
        "color": NEUTRAL,
    }


def log_axis(values: Sequence[float], title: str) -> Json:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, or closer ones, labelled as plain numbers."""
    low, high = (10.0**end for end in log_range(values))
    steps = NEAR if high / low < 4 else (1, 2, 5) if high / low < 300 else (1,)
    exponents = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps if low <= step * 10.0**exponent <= high]
    return {
        "type": "log",
        "title": {"text": title},
        "range": log_range(values),
        "tickvals": ticks,
        "ticktext": [f"{tick:z.12g}" for tick in ticks],
    }


def log_range(values: Sequence[float]) -> list[float]:
    """The ends of a logarithmic axis with room around the values, as powers of ten."""
    return [log10(min(values) / 1.35), log10(max(values) * 1.35)]


def padded_range(values: Sequence[float], least: float = 0.5) -> list[float]:
    """A linear range with room around the values, at least `least` to each side, so small differences look small."""
    low, high = min(values), max(values)
    room = max(least, 0.15 * (high - low))
    return [low - room, high + room]


def binary_ticks(column: str, values: Sequence[float]) -> Json:
    """Ticks at round binary sizes for a column of bytes; {} for any other column."""
    if not column.endswith("_bytes"):
        return {}
    top = max(values)
    power = max(0, min(len(BYTE_UNITS) - 1, floor(log10(max(top, 1)) / log10(1024))))
    unit = 1024**power
    step = next(s * 10**e * unit for e in range(12) for s in (1, 2, 5) if top / (s * 10**e * unit) < 2.5)
    ticks = [step * i for i in range(int(top / step) + 1)]
    return {
        "tickvals": ticks,
        "ticktext": [f"{tick / unit:g} {BYTE_UNITS[power]}" if tick else "0" for tick in ticks],
    }
