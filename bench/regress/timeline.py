"""Series -> time lines with their change points, intervals and changes of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bench.records import SMALLEST_EFFECT, Run
from bench.regress.environment import compare_environments
from bench.regress.history import read_history
from bench.regress.judge import MOST, find_fact, seed_of
from bench.regress.points import Points
from bench.regress.series import Series
from bench.report.timeline import MOST_MARKS, Mark, Timeline
from bench.stats.changes import find_changes
from bench.stats.levels import level_ratio
from bench.store import NightFigures

Said = dict[tuple[int, int], str]
"""Two environments, by the identity of the objects -> how they differ."""
SCREENED = 60
"""From so many nights on, a series is first screened: its change points take 20 times as long."""
SEEN = 4.5
"""`deviate` of a series that is searched. Of 100 series of 365 nights of normal noise 99 stay below; with steps of 4
deviations over 3 nights to 0.6 over 182, none of 40 did (least 4.95)."""


def trace_history(
    nights: Iterable[tuple[Run, NightFigures]], alarms: Mapping[str, str] = MappingProxyType({})
) -> list[Timeline]:
    """A time line for each series of two nights or more, of runs in the order of their start.

    `alarms`: series -> what is said of it.
    """
    return trace_series(sorted(read_history(nights).series.values(), key=lambda series: series.key), alarms)


def trace_series(series: Iterable[Series], alarms: Mapping[str, str] = MappingProxyType({})) -> list[Timeline]:
    """Their newest `MOST` points each."""
    said: Said = {}
    return [trace(one, said, alarms.get(one.key.text, "")) for one in series if len(one.points) > 1]


def trace(series: Series, said: Said, alarm: str = "") -> Timeline:
    """One series with all its changes beyond the smallest effect. Deterministic."""
    points = series.points[-MOST:]
    values = points.values.tolist()
    changes, size = mark_changes(series, points, values)
    environment, earlier = mark_environment(points, said)
    return Timeline(
        cell=series.key.cell,
        metric=series.key.metric,
        unit=series.key.unit,
        at=tuple(points.at.tolist()),
        values=tuple(values),
        changes=tuple(changes),
        environment=environment,
        earlier=earlier,
        size=size,
        alarm=alarm,
    )


def mark_changes(series: Series, points: Points, values: Sequence[float]) -> tuple[list[Mark], float]:
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
    if min(values) == max(values) or (len(values) >= SCREENED and deviate(values) < SEEN):
        return [], 0.0
    places = [change.index for change in find_changes(values, seed=seed_of(series), exact_from=len(values))]
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
    apart = np.subtract(sums[:, None], sums)
    return float(np.multiply(np.abs(apart, out=apart), weigh(len(values)), out=apart).max())


@lru_cache(maxsize=8)
def weigh(number: int) -> NDArray[np.float64]:
    """What `deviate` multiplies by for every two ends of a stretch: 0 where it is too short or too long."""
    ends = np.arange(number + 1)
    lengths = np.abs(ends[:, None] - ends).astype(np.float64)
    allowed = (lengths >= 2) & (lengths <= number - 1)
    share = np.where(allowed, lengths * (1 - lengths / number), 1)
    return np.where(allowed, 1 / np.sqrt(share), 0)


def describe(ratio: float, series: Series) -> str:
    """+2.1 %, worse."""
    worse = (ratio < 1) if series.higher else (ratio > 1)
    return f"{percent(ratio)}, {'worse' if worse else 'better'}"


def percent(ratio: float) -> str:
    """A ratio as a change in per cent."""
    return f"{100 * (ratio - 1):+z.1f} %".replace("-", "−")


def mark_environment(points: Points, said: Said) -> tuple[tuple[Mark, ...], int]:
    """The facts that differ between neighbouring nights, of the newest `MOST_MARKS`, and how many more there are.

    `said`: what was found of two environments, which many series share.
    """
    marks = []
    for place in (np.flatnonzero(np.diff(points.environments)) + 1).tolist():
        before, after = (points.surroundings[points.environments[one]] for one in (place - 1, place))
        pair = id(before), id(after)
        if pair not in said:
            said[pair] = "; ".join(compare_environments(before, after))
        if said[pair]:
            marks.append((place, said[pair]))
    newest = tuple(Mark(place=place, text=f"{points.at[place][:10]}: {text}") for place, text in marks[-MOST_MARKS:])
    return newest, len(marks) - len(newest)
