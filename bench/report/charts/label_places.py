"""Places names beside the points of a plot so that no name covers another. A name without room is left out."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 400.0, 255.0
"""The drawing area in pixels that placement assumes. A phone has less, a screen more."""
CHARACTER, LINE, POINT, GAP = 6.6, 14.0, 7.0, 10.0

Box = tuple[float, float, float, float]
SIDES = (
    ("bottom center", 0.5, 0.0, 0.0, GAP),
    ("top center", 0.5, 1.0, 0.0, -GAP),
    ("middle right", 0.0, 0.5, GAP, 0.0),
    ("middle left", 1.0, 0.5, -GAP, 0.0),
    ("top right", 0.0, 1.0, GAP / 2, -GAP / 2),
    ("top left", 1.0, 1.0, -GAP / 2, -GAP / 2),
    ("bottom right", 0.0, 0.0, GAP / 2, GAP / 2),
    ("bottom left", 1.0, 0.0, -GAP / 2, GAP / 2),
)
"""Plotly's name of a side, which part of the text touches the point, and the gap in x and y in pixels.

Sides above and below come first: error bars run to the left and right.
"""
FIRST_SIDES = (SIDES[1], SIDES[5], SIDES[3], SIDES[4], SIDES[2], SIDES[0], SIDES[7], SIDES[6])
"""The order for points on the front: its line comes from below and leaves to the right."""


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], first: Sequence[int]
) -> list[tuple[str, str]]:
    """For each point its name ("" without room) and side.

    `points`: fractions of the axes, 0 to 1, y upwards. `first`: indices of the names to place before the others.
    """
    pixels = [(x * WIDTH, (1 - y) * HEIGHT) for x, y in points]
    taken: list[Box] = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in pixels]
    found = [("", "top center")] * len(points)
    for index in [*first, *(i for i in range(len(points)) if i not in set(first))]:
        for side, *rest in FIRST_SIDES if index in first else SIDES:
            box = text_box(pixels[index], names[index], rest)
            others = [other for i, other in enumerate(taken) if i != index]
            if is_inside(box) and not any(overlaps(box, other) for other in others):
                taken.append(box)
                found[index] = (names[index], side)
                break
    return found


def text_box(point: tuple[float, float], name: str, side: Sequence[float]) -> Box:
    """Where a name would stand: left, top, right and bottom in pixels."""
    width, (part_x, part_y, gap_x, gap_y) = CHARACTER * len(name), side
    left, top = point[0] + gap_x - part_x * width, point[1] + gap_y - part_y * LINE
    return left, top, left + width, top + LINE


def is_inside(box: Box) -> bool:
    """Whether a box lies within the plot."""
    return box[0] >= 0 and box[1] >= -LINE and box[2] <= WIDTH and box[3] <= HEIGHT


def overlaps(a: Box, b: Box) -> bool:
    """Whether two boxes share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
