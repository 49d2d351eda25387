"""What changed: small pictures of the series of a store, those that changed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.report.page.archive import Archive, pack_archive
from bench.report.text import with_unit
from bench.report.timeline import Mark, Timeline

WIDTH, HEIGHT = 600.0, 80.0
MOST_PIECES = 150
"""Points that a picture has at most: the median of neighbouring nights, with their least and largest as a band."""
MOST_SHOWN = 40
"""Series that stand drawn on the page. The page's script draws the others when asked."""


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
    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The section: its pictures, and how many series there are, changed and have an alarm.

    `archive`: all series, those of the pictures first; None where all are drawn.
    """

    pictures: list[Picture]
    series: int
    changed: int
    alarms: int
    archive: Archive | None

    @property
    def left(self) -> int:
        """Series that are not drawn."""
        return self.series - len(self.pictures)


def draw_timelines(timelines: Sequence[Timeline]) -> Changes | None:
    """Alarms first, then the largest newest changes; those that never moved are left to the script. None without a series."""
    if not timelines:
        return None
    ranked = sorted(timelines, key=order)
    shown = [one for one in ranked[:MOST_SHOWN] if one.alarm or moves(one)]
    return Changes(
        pictures=[draw(one) for one in shown],
        series=len(timelines),
        changed=sum(bool(one.changes) for one in timelines),
        alarms=sum(bool(one.alarm) for one in timelines),
        archive=pack_archive(ranked) if len(shown) < len(ranked) else None,
    )


def order(timeline: Timeline) -> tuple[bool, bool, float, bool, bool]:
    """What a series is ranked by, the first smallest."""
    return not timeline.alarm, not timeline.changes, -timeline.size, not moves(timeline), not timeline.environment


def moves(timeline: Timeline) -> bool:
    """Whether it ever took another value."""
    return min(timeline.values) < max(timeline.values)


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
    return Picture(
        cell=timeline.cell,
        metric=timeline.label,
        line=" ".join(f"{at(start)},{up(median(piece))}" for start, piece in pieces),
        band=" ".join((*tops, *bottoms)) if len(values) > MOST_PIECES else "",
        low=with_unit(low, timeline.unit),
        high=with_unit(high, timeline.unit),
        newest=with_unit(values[-1], timeline.unit),
        first=timeline.at[0][:10],
        last=timeline.at[-1][:10],
        nights=len(values),
        changes=place_marks(timeline.shown_changes, at),
        environment=place_marks(timeline.shown_environment, at),
        more=timeline.hidden_marks,
        alarm=timeline.alarm,
    )


def place_marks(marks: Sequence[Mark], at: Callable[[float], float]) -> list[tuple[float, str]]:
    """Between the night before and the night of each."""
    return [(at(mark.place - 0.5), mark.text) for mark in marks]
