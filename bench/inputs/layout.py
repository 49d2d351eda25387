"""Channels first or last: when samples in one layout are for certain the inputs of a network that takes the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FIRST, LAST = "channels first", "channels last"
AXES = {FIRST: (2, 0, 1), LAST: (1, 2, 0)}
"""Layout -> where its axes lie in an image of the other layout."""


def find_layout(wanted: Sequence[int], given: Sequence[int]) -> str:
    """The layout that images of shape `given` must get for an input of shape `wanted` (-1: any size).

    "" where they fit as they are, where no layout fits, and where it is not certain which axis has the channels. Both
    shapes are without samples.
    """
    if fits_shape(wanted, given):
        return ""
    return next((layout for layout in find_ways(given) if fits_shape(wanted, turned(given, layout))), "")


def find_ways(shape: Sequence[int]) -> tuple[str, ...]:
    """Layouts that an image of this shape can be turned to: its channels are fewer than its rows and its columns.

    At most one: () where either the first or the last axis could have the channels.
    """
    if len(shape) != 3 or min(shape) < 1:
        return ()
    last, first = shape[2] < min(shape[:2]), shape[0] < min(shape[1:])
    return (FIRST,) if last and not first else (LAST,) if first and not last else ()


def layout_of(shape: Sequence[int]) -> str:
    """The layout that images of this shape have for certain; "" where either the first or the last axis could have the
    channels."""
    return next((LAST if way == FIRST else FIRST for way in find_ways(shape)), "")


def looks_last(shape: Sequence[int]) -> bool:
    """Whether these are square images of one or three channels, which lie last."""
    return len(shape) == 3 and shape[2] in (1, 3) and shape[0] == shape[1] > 4


def fits_shape(wanted: Sequence[int], given: Sequence[int]) -> bool:
    """Whether every size is the wanted one, or any is wanted."""
    return len(wanted) == len(given) and all(size in (-1, have) for size, have in zip(wanted, given, strict=True))


def turned(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """The shape of an image in this layout; "" is the one it has."""
    return tuple(shape[axis] for axis in AXES[layout]) if layout else tuple(shape)


def turn(images: Array, layout: str) -> Array:
    """The images (samples, ...) in this layout, in one piece of memory; "" is the one they have."""
    if not layout:
        return images
    return np.ascontiguousarray(images.transpose(0, *(axis + 1 for axis in AXES[layout])))
