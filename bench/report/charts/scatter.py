"""Cells -> Plotly scatter plots as plain data: a score, or the outputs' error, against latency. The page sets the colours of text and grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10

from bench.report.cells import Cell, find_front, group, league_of
from bench.report.charts.axes import Figure, describe_cell, error_bars, log_axis, log_range, padded_range
from bench.report.charts.label_places import place_labels
from bench.report.charts.legend import NEUTRAL, Legend, name_place
from bench.report.names import label_cells, make_league_namer, name_score
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


def draw_errors(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """The relative error of the outputs against latency, one plot per league that has no score."""
    timed = [cell for cell in cells if cell.figure("latency_p50_ms")]
    name_league = make_league_namer(timed)
    found = []
    for at, members in group(timed, league_of).items():
        shown = [cell for cell in members if cell.baseline or _has_error(cell)]
        if any(cell.figure("score") is not None for cell in members) or all(cell.baseline for cell in shown):
            continue
        found.append(draw_front(shown, legend, title=at.model, note=f"no labels, {name_league(at)}", axis=ERRORS))
    return found


def _has_error(cell: Cell) -> bool:
    """Whether a plot can have it: an output that is zero throughout makes the relative error infinite, which the tables show."""
    error = cell.figure(ERROR)
    return error is not None and isfinite(error)


def draw_front(
    cells: Sequence[Cell], legend: Legend, *, title: str, note: str, axis: ScoreAxis | None = None
) -> Figure:
    """One such plot. Cells that are not trusted are hollow and never on the front."""
    axis = axis or score_axis(cells)
    x = [cell.figure("latency_p50_ms") or 0.0 for cell in cells]
    y = [axis.factor * (cell.figure(axis.column) or 0.0) for cell in cells]
    trusted = [index for index, cell in enumerate(cells) if cell.trusted]
    front = [trusted[i] for i in find_front([(x[index], axis.gain * y[index]) for index in trusted])]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [x[i] for i in front],
        "y": [y[i] for i in front],
        "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": NEUTRAL},
        "hoverinfo": "skip",
        "meta": {"gain": axis.gain},
    }
    between = padded_range(y, axis.least)
    layout = {
        "xaxis": log_axis(x, "latency, median, ms"),
        "yaxis": {"title": {"text": axis.title}, "range": between, "nticks": 6},
        "showlegend": False,
    }
    points = accuracy_points(cells, x, y, legend, named=front, between=between, axis=axis)
    return Figure(title=title, note=note, data=[line, points], layout=layout, height=340)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAxis:
    """How a score is drawn. `factor`: from the column to the axis. `gain`: 1 where higher is better, else -1.

    `least`: room above and below the values, so that small differences look small.
    """

    title: str
    column: str = "score"
    factor: float = 1.0
    gain: int = 1
    least: float = 0.5


ERROR = "output_relative_rms"
ERRORS = ScoreAxis(title="relative output error (lower is better)", column=ERROR, gain=-1, least=0.02)


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
    axis: ScoreAxis,
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
        "customdata": [legend.places.get(name_place(cell)) for cell in cells],
        "error_y": error_bars(
            y, *([scaled(c.figure(f"{axis.column}_{end}"), axis.factor) for c in cells] for end in ("low", "high"))
        ),
        "error_x": error_bars(
            x, [c.figure("latency_p50_low_ms") for c in cells], [c.figure("latency_p50_high_ms") for c in cells]
        ),
    }


def scaled(value: float | None, factor: float) -> float | None:
    """A figure in the unit of its axis."""
    return None if value is None else factor * value


def axis_fractions(values: Sequence[float], between: Sequence[float]) -> list[float]:
    """Where values stand on an axis, 0 to 1."""
    low, high = between
    return [(value - low) / (high - low) for value in values]
