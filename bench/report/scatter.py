"""Cells -> Plotly scatter plots as plain data; colours of text and grid are the page's business."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from bench.report.axes import NEUTRAL, Figure, Legend, bars, guide, hover, log_axis, log_range, padded
from bench.report.cells import CLOCKS, Cell, circumstances, grouped, labels, league, pareto
from bench.report.labels import place
from bench.report.text import literal
from bench.types import Json


def accuracy_figures(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Accuracy against latency with the Pareto front: one plot a league, for no other latencies are ranked."""
    shown = [cell for cell in cells if cell.figure("latency_p50_ms") and cell.figure("accuracy") is not None]
    told = circumstances(shown)
    return [
        accuracy_figure(group, legend, title=at.model, note=f"{at.data or 'no data'} {told(at)}")
        for at, group in grouped(shown, league).items()
    ]


def accuracy_figure(cells: Sequence[Cell], legend: Legend, *, title: str, note: str) -> Figure:
    """One such plot. Cells that are not trusted are hollow and never on the front."""
    x = [cell.figure("latency_p50_ms") or 0.0 for cell in cells]
    y = [100 * (cell.figure("accuracy") or 0.0) for cell in cells]
    trusted = [index for index, cell in enumerate(cells) if cell.trusted]
    front = [trusted[i] for i in pareto([(x[index], y[index]) for index in trusted])]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [x[i] for i in front],
        "y": [y[i] for i in front],
        "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": NEUTRAL},
        "hoverinfo": "skip",
    }
    layout = {
        "xaxis": log_axis(x, "latency, median, ms"),
        "yaxis": {"title": {"text": "accuracy, %"}, "range": padded(y), "nticks": 6},
        "showlegend": False,
    }
    points = accuracy_points(cells, x, y, legend, named=front)
    return Figure(title=title, note=note, data=[line, points], layout=layout, height=340)


def accuracy_points(
    cells: Sequence[Cell], x: Sequence[float], y: Sequence[float], legend: Legend, *, named: Sequence[int]
) -> Json:
    """The points with their intervals; names where there is room, the baseline's and those of `named` first."""
    names, colours = labels(cells), [legend.colours[cell.record.recipe] for cell in cells]
    first = [*named, *(i for i, cell in enumerate(cells) if cell.baseline and i not in named)]
    across, up = fractions([log10(value) for value in x], log_range(x)), fractions(y, padded(y))
    placed = place(list(zip(across, up, strict=True)), [names[i] for i in range(len(cells))], first)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": list(x),
        "y": list(y),
        "text": [literal(name) for name, _ in placed],
        "textposition": [side for _, side in placed],
        "textfont": {"size": 11},
        "hovertext": [hover(names[i], cell) for i, cell in enumerate(cells)],
        "hoverinfo": "text",
        "cliponaxis": False,
        "marker": {
            "size": 11,
            "color": colours,
            "symbol": [("diamond" if c.baseline else "circle") + ("" if c.trusted else "-open") for c in cells],
            "line": {"width": 1.5, "color": colours},
        },
        "error_x": bars(
            x, [c.figure("latency_p50_low_ms") for c in cells], [c.figure("latency_p50_high_ms") for c in cells]
        ),
    }


def fractions(values: Sequence[float], between: Sequence[float]) -> list[float]:
    """Where values stand on an axis, 0 to 1."""
    low, high = between
    return [(value - low) / (high - low) for value in values]


def promise_figures(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Promised against delivered speed-up on logarithmic axes, one plot a target, backend and clock: each backend
    has baselines of its own, and its points would not be told from another's."""
    shown = [cell for cell in cells if cell.figure("promised_speedup") and cell.figure("speedup") and not cell.baseline]
    groups = grouped(shown, lambda c: (c.record.target, c.record.backend, c.record.clock))
    return [
        promise_figure(group, legend, title=f"{backend} on {target}", note=CLOCKS[clock])
        for (target, backend, clock), group in groups.items()
    ]


def promise_figure(cells: Sequence[Cell], legend: Legend, *, title: str, note: str) -> Figure:
    """One such plot: a colour a recipe, a symbol a model, the diagonal where promises are kept."""
    x, y = ([1.0, *(cell.figure(name) or 1.0 for cell in cells)] for name in ("promised_speedup", "speedup"))
    (left, right), (bottom, top) = (10.0**end for end in log_range(x)), (10.0**end for end in log_range(y))
    ends = [min(left, bottom), max(right, top)]
    data: list[Json] = [
        guide(ends, ends, "promise kept"),
        guide([left, right], [1.0, 1.0], "as fast as the baseline", dash="dot"),
    ]
    groups = grouped(cells, lambda c: c.record.recipe)
    data.extend(delivered(recipe, group, legend) for recipe, group in groups.items())
    data.extend(key_entry(model, legend.symbols[model]) for model in dict.fromkeys(cell.record.model for cell in cells))
    layout = {
        "xaxis": log_axis(x, "promised speed-up (multiply-accumulates)"),
        "yaxis": log_axis(y, "delivered speed-up (time)"),
        "showlegend": True,
        "shapes": [slower_region(bottom)],
    }
    return Figure(title=title, note=note, data=data, layout=layout, height=520)


def delivered(recipe: str, cells: Sequence[Cell], legend: Legend) -> Json:
    """The points of one recipe with their intervals; hollow where a cell is not trusted."""
    names, y = labels(cells), [cell.figure("speedup") or 0.0 for cell in cells]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": literal(recipe),
        "x": [cell.figure("promised_speedup") for cell in cells],
        "y": y,
        "hovertext": [hover(names[i], cell) for i, cell in enumerate(cells)],
        "hoverinfo": "text",
        "marker": {
            "size": 11,
            "color": legend.colours[recipe],
            "symbol": [legend.symbols[cell.record.model] + ("" if cell.trusted else "-open") for cell in cells],
        },
        "error_y": bars(y, [c.figure("speedup_low") for c in cells], [c.figure("speedup_high") for c in cells]),
    }


def slower_region(bottom: float) -> Json:
    """The part of the plot where the compressed model is slower than the one it came from."""
    place = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": bottom, "y1": 1}
    words = {"text": "slower than the baseline", "textposition": "bottom right", "font": {"size": 11}}
    return {
        "type": "rect",
        **place,
        "fillcolor": "rgba(200,70,60,0.07)",
        "line": {"width": 0},
        "layer": "below",
        "label": words,
    }


def key_entry(model: str, symbol: str) -> Json:
    """A legend entry for a symbol, without a point."""
    marker = {"symbol": symbol, "color": NEUTRAL, "size": 10}
    return {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": literal(model), "marker": marker}
