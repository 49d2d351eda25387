"""Series -> time lines with their change points, intervals and changes of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from bench.records import SMALLEST_EFFECT, Record, Run
from bench.regress.environment import compare_environments
from bench.regress.judge import MOST, find_fact, seed_of
from bench.regress.series import Point, Series, read_history
from bench.report.timeline import Mark, Timeline
from bench.stats.changes import find_changes
from bench.stats.levels import level_ratio

SCREENED = 60
"""From so many nights on, a series is first screened: its change points take 20 times as long."""
SEEN = 4.5
"""`deviate` of a series that is searched. Of 100 series of 365 nights of normal noise 99 stay below; with steps of 4
deviations over 3 nights to 0.6 over 182, none of 40 did (least 4.95)."""


def trace_history(nights: Iterable[tuple[Run, Iterable[Record]]]) -> list[Timeline]:
    """A time line for each series of two nights or more, of runs in the order of their start."""
    return trace_series(sorted(read_history(nights).series.values(), key=lambda series: series.key))


def trace_series(series: Iterable[Series]) -> list[Timeline]:
    """Their newest `MOST` points each."""
    return [trace(one) for one in series if len(one.points) > 1]


def trace(series: Series) -> Timeline:
    """One series with all its changes beyond the smallest effect. Deterministic."""
    points = series.points[-MOST:]
    values = [point.value for point in points]
    changes, size = mark_changes(series, points, values)
    return Timeline(
        cell=series.key.cell,
        metric=series.key.metric,
        unit=series.key.unit,
        at=tuple(point.at for point in points),
        values=tuple(values),
        changes=tuple(changes),
        environment=tuple(mark_environment(points)),
        size=size,
    )


def mark_changes(series: Series, points: Sequence[Point], values: Sequence[float]) -> tuple[list[Mark], float]:
    """Each change in words, and the size of the newest."""
    fact = find_fact(values, counted=series.counted)
    if fact is not None:
        ratio = values[fact] / values[fact - 1]
        text = f"{points[fact].at[:10]}: {describe(ratio, series)} (counted, exact)"
        return [Mark(place=fact, text=text)], abs(ratio - 1)
    if series.counted:
        return [], 0.0
    found: list[Mark] = []
    size = 0.0
    if len(values) >= SCREENED and deviate(values) < SEEN:
        return [], 0.0
    places = [change.index for change in find_changes(values, seed=seed_of(series))]
    bounds = [0, *places, len(values)]
    for start, place, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        level = level_ratio(values[start:place], values[place:end])
        if abs(level.value - 1) <= SMALLEST_EFFECT:
            continue
        within = "" if level.low is None or level.high is None else f" ({percent(level.low)} to {percent(level.high)})"
        found.append(Mark(place=place, text=f"{points[place].at[:10]}: {describe(level.value, series)}{within}"))
        size = abs(level.value - 1)
    return found, size


def deviate(values: Sequence[float]) -> float:
    """How far the mean of any stretch of 2 values or more lies from the others', in its standard errors.

    Circular binary segmentation's statistic (Olshen et al., Biostatistics 5, 2004) on values over their median
    absolute deviation, held within 6 of it. Infinite where over half of the values are equal.
    """
    found = np.asarray(values, dtype=np.float64) - np.median(values)
    scale = 1.4826 * float(np.median(np.abs(found)))
    if not scale:
        return float("inf")
    scaled = np.clip(found / scale, -6, 6)
    sums = np.concatenate([[0.0], np.cumsum(scaled - scaled.mean())])
    number, ends = len(values), np.arange(len(values) + 1)
    lengths = np.abs(ends[:, None] - ends).astype(np.float64)
    lengths[(lengths < 2) | (lengths > number - 1)] = np.nan
    return float(np.nanmax(np.abs(sums[:, None] - sums) / np.sqrt(lengths * (1 - lengths / number))))


def describe(ratio: float, series: Series) -> str:
    """+2.1 %, worse."""
    worse = (ratio < 1) if series.higher else (ratio > 1)
    return f"{percent(ratio)}, {'worse' if worse else 'better'}"


def percent(ratio: float) -> str:
    """A ratio as a change in per cent."""
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def mark_environment(points: Sequence[Point]) -> list[Mark]:
    """The facts that differ between neighbouring nights."""
    return [
        Mark(place=place, text=f"{after.at[:10]}: {'; '.join(found)}")
        for place, (before, after) in enumerate(pairwise(points), 1)
        if before.environment != after.environment
        and (found := compare_environments(before.environment, after.environment))
    ]
