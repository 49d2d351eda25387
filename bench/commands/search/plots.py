"""Points of a search -> the SVG coordinates of its page's plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 80, 16, 14, 44
ROOM = 0.06
"""Of the span, left free at both ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One trial: where it is, its kind (a class of the page's style), and the text under the pointer."""

    x: float
    y: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot in SVG units. `lines`: (kind, points of a polyline). `ticks_*`: (place, text)."""

    title: str
    x_title: str
    y_title: str
    dots: tuple[Dot, ...]
    lines: tuple[tuple[str, str], ...] = ()
    ticks_x: tuple[tuple[float, str], ...] = ()
    ticks_y: tuple[tuple[float, str], ...] = ()
    size: tuple[int, int] = field(default=(WIDTH, HEIGHT))
    frame: tuple[int, int, int, int] = field(default=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Values along an axis, and the places in SVG units at which they begin and end."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> float:
        """Its place."""
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Four to eight round values."""
        step = 10 ** math.floor(math.log10(self.high - self.low))
        step = next(step * part for part in (1, 0.5, 0.25, 0.2, 0.1) if (self.high - self.low) / (step * part) >= 4)
        first = math.ceil(self.low / step)
        places = (step * number for number in range(first, math.floor(self.high / step) + 1))
        return tuple((self.at(value), f"{round(value, 12):z.10g}") for value in places)


def span(values: Sequence[float], first: float, last: float) -> Span:
    """All values with room at both ends."""
    low, high = min(values), max(values)
    room = ROOM * (high - low) or max(abs(high), 1.0) * ROOM
    return Span(low=low - room, high=high + room, first=first, last=last)


def draw(
    title: str,
    titles: tuple[str, str],
    dots: Sequence[Dot],
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]] = (),
    limits: tuple[float | None, float | None] = (None, None),
) -> Plot:
    """A plot of dots and polylines in data units. `limits`: where a vertical and a horizontal budget line is drawn."""
    along, across = limits
    points = [(dot.x, dot.y) for dot in dots] + [point for _, line in lines for point in line]
    x = span([*(px for px, _ in points), *([along] if along is not None else [])], LEFT, WIDTH - RIGHT)
    y = span([*(py for _, py in points), *([across] if across is not None else [])], HEIGHT - BOTTOM, TOP)
    drawn = [(kind, [(x.at(px), y.at(py)) for px, py in line]) for kind, line in lines if line]
    if along is not None:
        drawn.append(("budget", [(x.at(along), TOP), (x.at(along), HEIGHT - BOTTOM)]))
    if across is not None:
        drawn.append(("budget", [(LEFT, y.at(across)), (WIDTH - RIGHT, y.at(across))]))
    return Plot(
        title=title,
        x_title=titles[0],
        y_title=titles[1],
        dots=tuple(Dot(x=x.at(dot.x), y=y.at(dot.y), kind=dot.kind, text=dot.text) for dot in dots),
        lines=tuple((kind, " ".join(f"{px},{py}" for px, py in line)) for kind, line in drawn),
        ticks_x=x.ticks(),
        ticks_y=y.ticks(),
    )
