"""Cells -> Plotly lines of a sustained run: latency, heat and clock over its seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records import SustainedWindow
from bench.report.cells import Cell, group
from bench.report.charts.axes import Figure
from bench.report.charts.heat import Point, draw_curves
from bench.report.charts.legend import Legend

SECONDS = "seconds of back-to-back inference"
CURVES: tuple[tuple[str, Callable[[SustainedWindow], float | None]], ...] = (
    ("median latency, ms", lambda window: window.p50_ns / 1e6),
    ("hottest zone, °C", lambda window: window.hottest_c),
    ("fastest clock, MHz", lambda window: window.fastest_mhz),
)


def draw_sustained(cells: Sequence[Cell], legend: Legend) -> list[Figure]:
    """Plots per model and target, a line per cell; none where nothing ran for long."""
    long = [cell for cell in cells if list_windows(cell)]
    groups = group(long, lambda c: (c.record.model, c.record.target))
    return [
        draw_curves(
            [(cell, list_points(cell, read)) for cell in members],
            legend,
            title=model,
            note=f"{axis} on {target}",
            axes=(SECONDS, axis),
            from_zero="latency" in axis,
        )
        for (model, target), members in groups.items()
        for axis, read in CURVES
        if any(list_points(cell, read) for cell in members)
    ]


def list_windows(cell: Cell) -> tuple[SustainedWindow, ...]:
    """Of the launch that ran for long."""
    return next((launch.sustained for launch in cell.record.launches if launch.sustained), ())


def list_points(cell: Cell, read: Callable[[SustainedWindow], float | None]) -> list[Point]:
    """Middle of each window in seconds, its figure, and its other quantiles."""
    return [
        (window.start_s + window.seconds / 2, value, describe(window))
        for window in list_windows(cell)
        if (value := read(window)) is not None
    ]


def describe(window: SustainedWindow) -> str:
    """What stands under the pointer."""
    return f"p90 {window.p90_ns / 1e6:.3g} ms, p99 {window.p99_ns / 1e6:.3g} ms, {window.inferences} inferences"
