"""Cells -> Plotly bars from zero: file size, memory, energy."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.axes import INK, Figure, Legend, binary_ticks, hover
from bench.report.cells import Cell, grouped, labels
from bench.report.text import interval, literal, number, size, times
from bench.stats import energy_of
from bench.types import Json


def size_figures(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """File size of each recipe, one plot a model; a mark where entropy coding of the weights would end."""
    shown = [cell for cell in cells if cell.figure("file_bytes")]
    return [
        bar_figure(
            group,
            legend,
            column="file_bytes",
            axis="file size",
            title=model,
            text=[with_factor(cell) for cell in group],
            mark=("entropy_bytes", "weights after entropy coding"),
        )
        for model, group in grouped(shown, lambda c: c.record.model).items()
    ]


def with_factor(cell: Cell) -> str:
    """1.50 MiB, 3.40× smaller."""
    text, factor = size(cell.figure("file_bytes")), cell.figure("compression_ratio")
    if factor is None or cell.baseline:
        return text
    if abs(factor - 1) < 0.01:
        return f"{text}, same size"
    return f"{text}, {times(factor)} smaller" if factor > 1 else f"{text}, {times(1 / factor)} larger"


def memory_figures(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Peak growth of the process beyond the imported runtime; a mark for what loading the model left."""
    shown = [cell for cell in cells if (cell.figure("memory_peak_bytes") or 0) > 0]
    groups = grouped(shown, lambda c: (c.record.model, c.record.target))
    return [
        bar_figure(
            group,
            legend,
            column="memory_peak_bytes",
            axis="host memory beyond the runtime",
            title=model,
            note=f"on {target}",
            text=[size(cell.figure("memory_peak_bytes")) for cell in group],
            mark=("memory_model_bytes", "left by loading the model"),
        )
        for (model, target), group in groups.items()
    ]


def energy_figures(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Energy of one input above idle, one plot a model, target and source."""
    shown = [cell for cell in cells if cell.figure("energy_per_inference_mj")]
    groups = grouped(shown, lambda c: (c.record.model, c.record.target, str(c.row["energy_source"])))
    return [
        bar_figure(
            group,
            legend,
            column="energy_per_inference_mj",
            axis="energy per inference above idle, mJ",
            title=model,
            note=f"on {target}, {source}",
            text=[f"{number(cell.figure('energy_per_inference_mj'))} mJ{spread(cell)}" for cell in group],
        )
        for (model, target, source), group in groups.items()
    ]


def spread(cell: Cell) -> str:
    """The interval over windows in millijoules, in brackets."""
    found = energy_of(cell.record.launches, cell.record.conditions.batch)
    if found is None or found.joules is None or found.joules.low is None or found.joules.high is None:
        return ""
    return f" ({interval(1e3 * found.joules.low, 1e3 * found.joules.high)})"


def bar_figure(
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
    """Horizontal bars from zero, one a cell, each with its number written beside it."""
    names, values = labels(cells), [cell.figure(column) or 0.0 for cell in cells]
    y = list(range(len(cells)))
    written = [
        f"{line}{'' if cell.trusted else f' ({cell.record.status.value})'}"
        for line, cell in zip(text, cells, strict=True)
    ]
    data: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": y,
            "text": written,
            "textposition": "outside",
            "cliponaxis": False,
            "hovertext": [hover(names[i], cell) for i, cell in enumerate(cells)],
            "hoverinfo": "text",
            "marker": {
                "color": [legend.colours[cell.record.recipe] for cell in cells],
                "opacity": [1.0 if cell.trusted else 0.45 for cell in cells],
            },
        }
    ]
    if mark and any(cell.figure(mark[0]) for cell in cells):
        data.append(marks(cells, y, mark[0], mark[1]))
    layout = {
        "xaxis": {
            "title": {"text": axis},
            "range": [0, (1.1 + 0.021 * max(map(len, written))) * max(values)],
            "nticks": 5,
            **binary_ticks(column, values),
        },
        "yaxis": {
            "tickvals": y,
            "ticktext": [literal(names[index]) for index in y],
            "range": [len(cells) - 0.4, -0.6],
            "showgrid": False,
            "automargin": True,
        },
        "showlegend": False,
        "bargap": 0.35,
    }
    return Figure(title=title, note=note, data=data, layout=layout, height=90 + 30 * len(cells))


def marks(cells: Sequence[Cell], y: Sequence[int], column: str, what: str) -> Json:
    """A thin upright mark in each bar at another of its figures."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [cell.figure(column) for cell in cells],
        "y": list(y),
        "marker": {"symbol": "line-ns-open", "size": 14, "line": {"width": 2}, "color": INK},
        "hovertext": [f"{size(cell.figure(column))} {what}" for cell in cells],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
