"""The reach a target names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.errors import unknown
from bench.reach.base import Reach
from bench.reach.local import Local


def _emulated(device: str) -> Reach:
    from bench.reach.emulated import Emulated

    return Emulated(device)


REACHES: Mapping[str, Callable[[str], Reach]] = {"local": lambda _device: Local(), "emulated": _emulated}


def check_reach(kind: str) -> None:
    """Raises `InvalidInput` for a kind that does not exist; opens nothing."""
    if kind not in REACHES:
        raise unknown("reach", kind, REACHES)


def open_reach(kind: str, device: str) -> Reach:
    """`device`: the variant of the target a cell runs on. Raises `InvalidInput` for a kind that does not exist,
    `Unavailable` when the way to the target is not set up."""
    check_reach(kind)
    return REACHES[kind](device)
