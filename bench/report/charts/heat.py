"""Cells -> Plotly lines of the hottest zone and the fastest clock over the time of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records import Climate
from bench.report.cells import Cell, group
from bench.report.charts.axes import Figure, padded_range
from bench.report.charts.legend import Legend
from bench.report.names import label_cells
from bench.report.text import escape_name
from bench.types import Json

HEIGHT = 320
CURVES: tuple[tuple[str, Callable[[Climate], float | None]], ...] = (
    ("hottest zone, °C", lambda climate: climate.hottest_c),
    ("fastest clock, MHz", lambda climate: climate.fastest_mhz),
)


def draw_heat(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """A plot of heat and one of clocks per model and target, a line per cell; none where the device shows neither."""
    groups = group(cells, lambda c: (c.record.model, c.record.target))
    return [
        draw_curves(members, legend, title=model, note=f"{axis} on {target}{describe(members)}", axis=axis, read=read)
        for (model, target), members in groups.items()
        for axis, read in CURVES
        if any(read(climate) is not None for cell in members for climate in list_climate(cell))
    ]


def list_climate(cell: Cell) -> list[Climate]:
    """All moments of all launches, in order."""
    return [climate for launch in cell.record.launches for climate in launch.climate]


def describe(cells: Sequence[Cell]) -> str:
    """The governors, and what could not be asked."""
    climates = [climate for cell in cells for climate in list_climate(cell)]
    governors = sorted({name for climate in climates for name in climate.governors})
    unread = dict.fromkeys(text for climate in climates for text in climate.unread)
    parts = [f"governor {', '.join(governors)}"] if governors else []
    return "".join(f"; {part}" for part in (*parts, *(f"not read: {text}" for text in unread)))


def draw_curves(
    cells: Sequence[Cell],
    legend: Legend,
    *,
    title: str,
    note: str,
    axis: str,
    read: Callable[[Climate], float | None],
) -> Figure:
    """One line per cell: seconds since the first moment of any, and what `read` gives."""
    began_ns = min(climate.at_ns for cell in cells for climate in list_climate(cell))
    data: list[Json] = []
    values: list[float] = []
    for name, cell in zip(label_cells(cells), cells, strict=True):
        points = [
            ((climate.at_ns - began_ns) / 1e9, value, climate.moment)
            for climate in list_climate(cell)
            if (value := read(climate)) is not None
        ]
        values += [value for _, value, _ in points]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [seconds for seconds, _, _ in points],
                "y": [value for _, value, _ in points],
                "text": [f"<b>{escape_name(name)}</b><br>{escape_name(moment)}" for _, _, moment in points],
                "hovertemplate": "%{text}<br>%{y:.0f} after %{x:.0f} s<extra></extra>",
                "name": escape_name(name),
                "line": {"color": legend.colours[cell.record.recipe], "width": 1.5},
            }
        )
    layout = {
        "xaxis": {"title": {"text": "seconds since the first measurement"}},
        "yaxis": {"title": {"text": axis}, "range": padded_range(values)},
        "showlegend": True,
    }
    return Figure(title=title, note=note, data=data, layout=layout, height=HEIGHT)
