"""Cells -> Plotly bars from zero: file size, memory, energy."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.cells import Cell, group
from bench.report.charts.axes import Figure, binary_ticks, describe_cell
from bench.report.charts.legend import INK, Legend, name_place
from bench.report.names import label_cells
from bench.report.text import escape_name, interval, number, size, times
from bench.stats import energy_of
from bench.types import Json


def draw_sizes(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """File size of each recipe, one plot per model. A mark shows the size after entropy coding of the weights."""
    shown = [cell for cell in cells if cell.figure("file_bytes")]
    return [
        draw_bars(
            members,
            legend,
            column="file_bytes",
            axis="file size",
            title=model,
            text=[size_and_factor(cell) for cell in members],
            mark=("entropy_bytes", "weights after entropy coding"),
        )
        for model, members in group(shown, lambda c: c.record.model).items()
    ]


def size_and_factor(cell: Cell) -> str:
    """1.50 MiB, 3.40× smaller."""
    text, factor = size(cell.figure("file_bytes")), cell.figure("compression_ratio")
    if factor is None or cell.baseline:
        return text
    if abs(factor - 1) < 0.01:
        return f"{text}, same size"
    return f"{text}, {times(factor)} smaller" if factor > 1 else f"{text}, {times(1 / factor)} larger"


def draw_memory(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Peak growth of the process beyond the imported runtime. A mark shows what loading the model left."""
    shown = [cell for cell in cells if (cell.figure("memory_peak_bytes") or 0) > 0]
    groups = group(shown, lambda c: (c.record.model, c.record.target))
    return [
        draw_bars(
            members,
            legend,
            column="memory_peak_bytes",
            axis="host memory beyond the runtime",
            title=model,
            note=f"on {target}",
            text=[size(cell.figure("memory_peak_bytes")) for cell in members],
            mark=("memory_model_bytes", "left by loading the model"),
        )
        for (model, target), members in groups.items()
    ]


def draw_energy(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Energy of one input above idle, one plot per model, target and meter."""
    shown = [cell for cell in cells if cell.figure("energy_per_inference_mj")]
    groups = group(shown, lambda c: (c.record.model, c.record.target, str(c.row["energy_source"])))
    return [
        draw_bars(
            members,
            legend,
            column="energy_per_inference_mj",
            axis="energy per inference above idle, mJ",
            title=model,
            note=f"on {target}, {source}",
            text=[f"{number(cell.figure('energy_per_inference_mj'))} mJ{bracketed_interval(cell)}" for cell in members],
        )
        for (model, target, source), members in groups.items()
    ]


def bracketed_interval(cell: Cell) -> str:
    """The interval over windows in millijoules, in brackets; "" without one."""
    found = energy_of(cell.record.launches, cell.record.conditions.batch)
    if found is None or found.joules is None or found.joules.low is None or found.joules.high is None:
        return ""
    return f" ({interval(1e3 * found.joules.low, 1e3 * found.joules.high)})"


def draw_bars(
    cells: Sequence[Cell],
    legend: Legend,
    *,
    column: str,
    axis: str,
    title: str,
    text: Sequence[str],
    note: str = "",
    mark: tuple[str, str] | None = None,
) -> Figure:
    """Horizontal bars from zero, one per cell, each with its number beside it.

    `mark`: another column to mark in each bar, and what it means.
    """
    values, y = [cell.figure(column) or 0.0 for cell in cells], list(range(len(cells)))
    written = [
        f"{line}{'' if cell.trusted else f' ({cell.record.status.value})'}"
        for line, cell in zip(text, cells, strict=True)
    ]
    data: list[Json] = [bar_trace(cells, legend, values, written)]
    if mark and any(cell.figure(mark[0]) for cell in cells):
        data.append(mark_trace(cells, legend, y, mark[0], mark[1]))
    layout = bar_layout(cells, values, written, ticks=binary_ticks(column, values), axis=axis)
    return Figure(title=title, note=note, data=data, layout=layout, height=90 + 30 * len(cells))


def bar_layout(
    cells: Sequence[Cell], values: Sequence[float], written: Sequence[str], *, ticks: Json, axis: str
) -> Json:
    """The axes. The longer the numbers beside the bars, the more room they get."""
    return {
        "xaxis": {
            "title": {"text": axis},
            "range": [0, (1.1 + 0.021 * max(map(len, written))) * max(values)],
            "nticks": 5,
            **ticks,
        },
        "yaxis": {
            "tickvals": list(range(len(cells))),
            "ticktext": [escape_name(name) for name in label_cells(cells)],
            "range": [len(cells) - 0.4, -0.6],
            "showgrid": False,
            "automargin": True,
        },
        "showlegend": False,
        "bargap": 0.35,
    }


def bar_trace(cells: Sequence[Cell], legend: Legend, values: Sequence[float], written: Sequence[str]) -> Json:
    """The bars; those of cells that are not trusted are pale."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(values),
        "y": list(range(len(cells))),
        "text": list(written),
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": [describe_cell(name, cell) for name, cell in zip(label_cells(cells), cells, strict=True)],
        "hoverinfo": "text",
        "customdata": [legend.places.get(name_place(cell)) for cell in cells],
        "marker": {
            "color": [legend.colours[cell.record.recipe] for cell in cells],
            "opacity": [1.0 if cell.trusted else 0.45 for cell in cells],
        },
    }


def mark_trace(cells: Sequence[Cell], legend: Legend, y: Sequence[int], column: str, what: str) -> Json:
    """A thin upright mark in each bar at another of its figures."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [cell.figure(column) for cell in cells],
        "y": list(y),
        "marker": {"symbol": "line-ns-open", "size": 14, "line": {"width": 2}, "color": INK},
        "customdata": [legend.places.get(name_place(cell)) for cell in cells],
        "hovertext": [f"{size(cell.figure(column))} {what}" for cell in cells],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
