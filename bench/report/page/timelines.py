"""What changed: small pictures of the series of a store, those that changed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.report.text import number, size
from bench.report.timeline import Mark, Timeline

WIDTH, HEIGHT = 600.0, 80.0
MOST_PIECES = 150
"""Points that a picture has at most: the median of neighbouring nights, with their least and largest as a band."""
MOST_SHOWN = 40
"""Series that are drawn. The others are counted in words, and those that never moved; `pressbench regress` judges all."""
MOST_MARKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One series. `line`: points of a polyline, `band`: of a polygon, in a box of `WIDTH` by `HEIGHT`.

    `changes`, `environment`: (x, text) of each mark; texts also stand beneath. `more`: marks that are left out.
    """

    cell: str
    metric: str
    line: str
    band: str
    low: str
    high: str
    newest: str
    first: str
    last: str
    nights: int
    changes: list[tuple[float, str]]
    environment: list[tuple[float, str]]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The section: its pictures, how many series changed, and how many are not drawn."""

    pictures: list[Picture]
    changed: int
    left: int


def draw_timelines(timelines: Sequence[Timeline]) -> Changes | None:
    """The largest newest changes first, without series that never moved; None without a series."""
    if not timelines:
        return None
    moved = [one for one in timelines if min(one.values) < max(one.values)]
    ranked = sorted(moved, key=lambda one: (not one.changes, -one.size, not one.environment))
    return Changes(
        pictures=[draw(one) for one in ranked[:MOST_SHOWN]],
        changed=sum(bool(one.changes) for one in timelines),
        left=len(timelines) - len(ranked[:MOST_SHOWN]),
    )


def draw(timeline: Timeline) -> Picture:
    """One picture from the lowest to the highest value."""
    values = timeline.values
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    ends = [round(i * len(values) / min(len(values), MOST_PIECES)) for i in range(min(len(values), MOST_PIECES) + 1)]
    pieces = [(start, values[start:end]) for start, end in pairwise(ends)]

    def at(place: float) -> float:
        return round(WIDTH * place / max(1, len(values) - 1), 1)

    def up(value: float) -> float:
        return round(4 + (HEIGHT - 8) * (1 - (value - low) / span), 1)

    tops = [f"{at(start)},{up(max(piece))}" for start, piece in pieces]
    bottoms = [f"{at(start)},{up(min(piece))}" for start, piece in reversed(pieces)]
    marks = len(timeline.changes) + len(timeline.environment)
    environment = timeline.environment[-max(0, MOST_MARKS - len(timeline.changes)) :]
    return Picture(
        cell=timeline.cell,
        metric=f"{timeline.metric}, {timeline.unit}",
        line=" ".join(f"{at(start)},{up(median(piece))}" for start, piece in pieces),
        band=" ".join((*tops, *bottoms)) if len(values) > MOST_PIECES else "",
        low=write(low, timeline),
        high=write(high, timeline),
        newest=write(values[-1], timeline),
        first=timeline.at[0][:10],
        last=timeline.at[-1][:10],
        nights=len(values),
        changes=place_marks(timeline.changes[-MOST_MARKS:], at),
        environment=place_marks(environment, at),
        more=max(0, marks - MOST_MARKS),
    )


def place_marks(marks: Sequence[Mark], at: Callable[[float], float]) -> list[tuple[float, str]]:
    """Between the night before and the night of each."""
    return [(at(mark.place - 0.5), mark.text) for mark in marks]


def write(value: float, timeline: Timeline) -> str:
    """A value with its unit."""
    return size(value) if timeline.unit == "bytes" else f"{number(value)} {timeline.unit.partition(',')[0]}"
