"""What the plots share: a figure, the legend, axes, error bars and what a pointer tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from math import floor, log10

from bench.report.cells import Cell
from bench.report.text import BYTE_UNITS, count, interval, literal, number, percent, signed, size, times
from bench.types import Json

NEUTRAL = "#7c8796"
NEAR = (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
"""Ticks of a logarithmic axis that spans less than a factor of 4."""
INK = "ink"
"""Stands for the colour of the text, which only the page knows."""
PALETTE = ("#2f7fc4", "#d9772b", "#25956b", "#c04f93", "#8a6fd6", "#a98a16", "#2b9fb5", "#cf5247", "#6d8f2e", "#9a6a4f")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "pentagon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot: what it is of, Plotly's data and layout, and its height in pixels."""

    title: str
    note: str
    data: list[Json]
    layout: Json
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """A recipe keeps its colour, and a model its symbol, in every plot of a page."""

    colours: dict[str, str]
    symbols: dict[str, str]


def legend_of(cells: Sequence[Cell]) -> Legend:
    """Colours and symbols in the order names first come; a baseline is neutral."""
    recipes = dict.fromkeys(cell.record.recipe for cell in cells if not cell.baseline)
    colours = dict(zip(recipes, cycle(PALETTE), strict=False))
    neutral = dict.fromkeys((cell.record.recipe for cell in cells if cell.baseline), NEUTRAL)
    models = dict.fromkeys(cell.record.model for cell in cells)
    return Legend(colours={**colours, **neutral}, symbols=dict(zip(models, cycle(SYMBOLS), strict=False)))


def hover(name: str, cell: Cell) -> str:
    """What a pointer over a cell tells."""
    within = interval(cell.figure("speedup_low"), cell.figure("speedup_high"))
    lines = [
        f"<b>{literal(name)}</b> ({cell.record.status.value})",
        literal(cell.record.model),
        f"latency {number(cell.figure('latency_p50_ms'))} ms",
        f"speed-up {times(cell.figure('speedup'))}{f' ({within})' if within and not cell.baseline else ''}",
        f"promised {times(cell.figure('promised_speedup'))}",
        f"accuracy {percent(cell.figure('accuracy'))} (drop {signed(cell.figure('accuracy_drop_pp'))} pp)",
        f"file {size(cell.figure('file_bytes'))}, {count(cell.figure('macs'))} MACs",
    ]
    return "<br>".join(lines)


def bars(values: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> Json:
    """Error bars to both ends of an interval, none where there is none."""
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
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten or closer, written out."""
    low, high = (10.0**end for end in log_range(values))
    steps = NEAR if high / low < 4 else (1, 2, 5) if high / low < 300 else (1,)
    exponents = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps if low <= step * 10.0**exponent <= high]
    return {
        "type": "log",
        "title": {"text": title},
        "range": log_range(values),
        "tickvals": ticks,
        "ticktext": [f"{tick:.12g}" for tick in ticks],
    }


def log_range(values: Sequence[float]) -> list[float]:
    """The ends of a logarithmic axis with room around the values, as powers of ten."""
    return [log10(min(values) / 1.35), log10(max(values) * 1.35)]


def padded(values: Sequence[float]) -> list[float]:
    """A linear range with room around, at least one unit high: small differences must not look large."""
    low, high = min(values), max(values)
    room = max(0.5, 0.15 * (high - low))
    return [low - room, high + room]


def binary_ticks(column: str, values: Sequence[float]) -> Json:
    """Ticks at round binary sizes for a column of bytes."""
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


def guide(x: Sequence[float], y: Sequence[float], name: str, dash: str = "dash") -> Json:
    """A line that is no data, with its name in the legend."""
    line = {"dash": dash, "width": 1.5, "color": NEUTRAL}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": line,
        "hoverinfo": "skip",
    }
