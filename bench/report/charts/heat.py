"""Cells -> Plotly lines of the hottest zone and the fastest clock over the time of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records import Climate
from bench.report.cells import Cell, group
from bench.report.charts.axes import Figure, padded_range
from bench.report.charts.legend import Legend, name_place
from bench.report.names import label_cells
from bench.report.text import escape_name
from bench.types import Json

HEIGHT = 320
Point = tuple[float, float, str]
"""Seconds, a figure, and what stands under the pointer."""
CURVES: tuple[tuple[str, Callable[[Climate], float | None]], ...] = (
    ("hottest zone, °C", lambda climate: climate.hottest_c),
    ("fastest clock, MHz", lambda climate: climate.fastest_mhz),
)


def draw_heat(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """A plot of heat and one of clocks per model and target, a line per cell; none where the device shows neither."""
    groups = group(cells, lambda c: (c.record.model, c.record.target))
    return [
        draw_curves(
            list_lines(members, read),
            legend,
            title=model,
            note=f"{axis} on {target}{describe(members)}",
            axes=("seconds since the first measurement", axis),
        )
        for (model, target), members in groups.items()
        for axis, read in CURVES
        if any(read(climate) is not None for cell in members for climate in list_climate(cell))
    ]


def list_lines(cells: Sequence[Cell], read: Callable[[Climate], float | None]) -> list[tuple[Cell, Sequence[Point]]]:
    """The points of each cell: seconds since the first moment of any, and what `read` gives."""
    began_ns = min(climate.at_ns for cell in cells for climate in list_climate(cell))
    return [
        (
            cell,
            [
                ((climate.at_ns - began_ns) / 1e9, value, climate.moment)
                for climate in list_climate(cell)
                if (value := read(climate)) is not None
            ],
        )
        for cell in cells
    ]


def list_climate(cell: Cell) -> list[Climate]:
    """All moments of all launches and comparisons, in order."""
    launched = [climate for launch in cell.record.launches for climate in launch.climate]
    return [*launched, *(climate for pair in cell.record.pairs for climate in pair.climate)]


def describe(cells: Sequence[Cell]) -> str:
    """The governors, and what could not be asked."""
    climates = [climate for cell in cells for climate in list_climate(cell)]
    governors = sorted({name for climate in climates for name in climate.governors})
    unread = dict.fromkeys(text for climate in climates for text in climate.unread)
    parts = [f"governor {', '.join(governors)}"] if governors else []
    return "".join(f"; {part}" for part in (*parts, *(f"not read: {text}" for text in unread)))


def draw_curves(
    lines: Sequence[tuple[Cell, Sequence[Point]]],
    legend: Legend,
    *,
    title: str,
    note: str,
    axes: tuple[str, str],
    from_zero: bool = False,
) -> Figure:
    """One line per cell through its points. `axes`: the titles of both. `from_zero`: where the upright one begins."""
    names = label_cells([cell for cell, _ in lines])
    values = [value for _, points in lines for _, value, _ in points]
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [seconds for seconds, _, _ in points],
            "y": [value for _, value, _ in points],
            "text": [f"<b>{escape_name(name)}</b><br>{escape_name(said)}" for _, _, said in points],
            "hovertemplate": f"%{{text}}<br>%{{y:{'.3g' if from_zero else '.0f'}}} after %{{x:.0f}} s<extra></extra>",
            "name": escape_name(name),
            "meta": {"cell": legend.places.get(name_place(cell))},
            "line": {"color": legend.colours[cell.record.recipe], "width": 1.5},
        }
        for name, (cell, points) in zip(names, lines, strict=True)
    ]
    layout = {
        "xaxis": {"title": {"text": axes[0]}},
        "yaxis": {"title": {"text": axes[1]}, "range": [0, 1.15 * max(values)] if from_zero else padded_range(values)},
        "showlegend": True,
    }
    return Figure(title=title, note=note, data=data, layout=layout, height=HEIGHT)
