"""Cells -> Plotly scatter plots as plain data. The page sets the colours of text and grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

from bench.report.cells import Cell, find_front, group, league_of
from bench.report.charts.axes import (
    Figure,
    describe_cell,
    error_bars,
    guide_line,
    log_axis,
    log_range,
    padded_range,
)
from bench.report.charts.label_places import place_labels
from bench.report.charts.legend import NEUTRAL, SLOWER, Legend
from bench.report.names import label_cells, make_league_namer, name_score
from bench.report.signs import CLOCKS
from bench.report.text import escape_name
from bench.types import Json


def draw_accuracy(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Accuracy, or the score of another task, against latency with the Pareto front.

    One plot per league and score: other latencies are not comparable.
    """
    shown = [cell for cell in cells if cell.figure("latency_p50_ms") and cell.figure("score") is not None]
    name_league = make_league_namer(shown)
    return [
        draw_front(members, legend, title=at.model, note=f"{at.data or 'no data'} {name_league(at)}")
        for (at, _), members in group(shown, lambda cell: (league_of(cell), name_score(cell))).items()
    ]


def draw_front(cells: Sequence[Cell], legend: Legend, *, title: str, note: str) -> Figure:
    """One such plot. Cells that are not trusted are hollow and never on the front."""
    axis = score_axis(cells)
    x = [cell.figure("latency_p50_ms") or 0.0 for cell in cells]
    y = [axis.factor * (cell.figure("score") or 0.0) for cell in cells]
    trusted = [index for index, cell in enumerate(cells) if cell.trusted]
    front = [trusted[i] for i in find_front([(x[index], axis.gain * y[index]) for index in trusted])]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [x[i] for i in front],
        "y": [y[i] for i in front],
        "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": NEUTRAL},
        "hoverinfo": "skip",
    }
    between = padded_range(y, axis.least)
    layout = {
        "xaxis": log_axis(x, "latency, median, ms"),
        "yaxis": {"title": {"text": axis.title}, "range": between, "nticks": 6},
        "showlegend": False,
    }
    points = accuracy_points(cells, x, y, legend, named=front, between=between)
    return Figure(title=title, note=note, data=[line, points], layout=layout, height=340)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAxis:
    """How a score is drawn. `factor`: from the column to the axis. `gain`: 1 where higher is better, else -1.

    `least`: room above and below the values, so that small differences look small.
    """

    title: str
    factor: float = 1.0
    gain: int = 1
    least: float = 0.5


def score_axis(cells: Sequence[Cell]) -> ScoreAxis:
    """Of cells with one score: per cent of an accuracy, else the score in its own unit."""
    if all(cell.figure("accuracy") is not None for cell in cells):
        return ScoreAxis(title="accuracy, %", factor=100.0)
    name = escape_name(name_score(cells[0]))
    kinds = [cell.record.quality.score for cell in cells if cell.record.quality and cell.record.quality.score]
    largest = max(abs(cell.figure("score") or 0.0) for cell in cells)
    least = 0.02 * largest or 0.5
    if not kinds:
        return ScoreAxis(title=name, least=least)
    unit = "" if kinds[0].unit in {"", "fraction"} else f", {escape_name(kinds[0].unit)}"
    if kinds[0].higher_is_better:
        return ScoreAxis(title=f"{name}{unit}", least=least)
    return ScoreAxis(title=f"{name}{unit} (lower is better)", gain=-1, least=least)


def accuracy_points(
    cells: Sequence[Cell],
    x: Sequence[float],
    y: Sequence[float],
    legend: Legend,
    *,
    named: Sequence[int],
    between: Sequence[float],
) -> Json:
    """The points with their intervals. Names stand where there is room; `named` and the baseline come first."""
    names, colours = label_cells(cells), [legend.colours[cell.record.recipe] for cell in cells]
    first = [*named, *(i for i, cell in enumerate(cells) if cell.baseline and i not in named)]
    across, up = axis_fractions([log10(value) for value in x], log_range(x)), axis_fractions(y, between)
    placed = place_labels(list(zip(across, up, strict=True)), names, first)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": list(x),
        "y": list(y),
        "text": [escape_name(name) for name, _ in placed],
        "textposition": [side for _, side in placed],
        "textfont": {"size": 11},
        "hovertext": [describe_cell(name, cell) for name, cell in zip(names, cells, strict=True)],
        "hoverinfo": "text",
        "cliponaxis": False,
        "marker": {
            "size": 11,
            "color": colours,
            "symbol": [("diamond" if c.baseline else "circle") + ("" if c.trusted else "-open") for c in cells],
            "line": {"width": 1.5, "color": colours},
        },
        "error_x": error_bars(
            x, [c.figure("latency_p50_low_ms") for c in cells], [c.figure("latency_p50_high_ms") for c in cells]
        ),
    }


def axis_fractions(values: Sequence[float], between: Sequence[float]) -> list[float]:
    """Where values stand on an axis, 0 to 1."""
    low, high = between
    return [(value - low) / (high - low) for value in values]


def draw_promises(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Promised against delivered speed-up on logarithmic axes, one plot per target, backend and clock.

    Each backend has its own baselines, so the points of two backends need two plots.
    """
    shown = [cell for cell in cells if cell.figure("promised_speedup") and cell.figure("speedup") and not cell.baseline]
    groups = group(shown, lambda c: (c.record.target, c.record.backend, c.record.clock))
    return [
        draw_promise(members, legend, title=f"{backend} on {target}", note=CLOCKS[clock])
        for (target, backend, clock), members in groups.items()
    ]


def draw_promise(cells: Sequence[Cell], legend: Legend, *, title: str, note: str) -> Figure:
    """One such plot: a colour per recipe, a symbol per model, and the diagonal where promises are kept."""
    x, y = ([1.0, *(cell.figure(name) or 1.0 for cell in cells)] for name in ("promised_speedup", "speedup"))
    (left, right), (bottom, top) = (10.0**end for end in log_range(x)), (10.0**end for end in log_range(y))
    ends = [min(left, bottom), max(right, top)]
    data: list[Json] = [
        guide_line(ends, ends, "promise kept"),
        guide_line([left, right], [1.0, 1.0], "as fast as the baseline", dash="dot"),
    ]
    groups = group(cells, lambda c: c.record.recipe)
    data.extend(recipe_trace(recipe, members, legend) for recipe, members in groups.items())
    models = dict.fromkeys(cell.record.model for cell in cells)
    if len(models) > 1:
        data.extend(key_entry(model, legend.symbols[model]) for model in models)
    layout = {
        "xaxis": log_axis(x, "promised speed-up (multiply-accumulates)"),
        "yaxis": log_axis(y, "delivered speed-up (time)"),
        "showlegend": True,
        "shapes": [slower_region(bottom)],
    }
    return Figure(title=title, note=note, data=data, layout=layout, height=520)


def recipe_trace(recipe: str, cells: Sequence[Cell], legend: Legend) -> Json:
    """The points of one recipe with their intervals; hollow where a cell is not trusted."""
    names, y = label_cells(cells), [cell.figure("speedup") or 0.0 for cell in cells]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape_name(recipe),
        "x": [cell.figure("promised_speedup") for cell in cells],
        "y": y,
        "hovertext": [describe_cell(name, cell) for name, cell in zip(names, cells, strict=True)],
        "hoverinfo": "text",
        "marker": {
            "size": 11,
            "color": legend.colours[recipe],
            "symbol": [legend.symbols[cell.record.model] + ("" if cell.trusted else "-open") for cell in cells],
        },
        "error_y": error_bars(y, [c.figure("speedup_low") for c in cells], [c.figure("speedup_high") for c in cells]),
    }


def slower_region(bottom: float) -> Json:
    """The part of the plot where the compressed model is slower than the one it came from."""
    place = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": bottom, "y1": 1}
    words = {"text": "slower than the baseline", "textposition": "bottom right", "font": {"size": 11}}
    return {
        "type": "rect",
        **place,
        "fillcolor": SLOWER,
        "line": {"width": 0},
        "layer": "below",
        "label": words,
    }


def key_entry(model: str, symbol: str) -> Json:
    """A legend entry for a symbol, without a point."""
    marker = {"symbol": symbol, "color": NEUTRAL, "size": 10}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "name": escape_name(model),
        "marker": marker,
    }
