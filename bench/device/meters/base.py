"""The interface of an energy meter. Registered in the entry-point group `pressbench.meters`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.types import Json, Scalar

NO_OPTIONS: Mapping[str, Scalar] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Energy counted since some fixed moment, and when it was read (perf_counter clock)."""

    joules: float
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """State of the machine a meter can see. Every entry of `distrust` makes the cell untrusted
    (throttled, another process on the device); `notes` keeps clocks, temperature, limits."""

    distrust: tuple[str, ...] = ()
    notes: Mapping[str, Json] = field(default_factory=dict)


class Meter(ABC):
    """A cumulative energy counter.

    Laws: `read` never decreases between calls (wrap-around is unwound); it never sets anything;
    a window shorter than `min_window_s` is not offered to it. A meter that integrates a power counts only between
    `resume` and `pause`, so that it disturbs nothing else that is timed.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """"measured:<meter>" or "modelled:<model>"."""
    covers: ClassVar[str]
    """What it counts, and what it leaves out."""
    min_window_s: ClassVar[float]
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    """Option of a target's `[meter_options.NAME]` -> the values it takes, the default first; () is free."""
    step_j: float = 0.0
    """The counter's smallest step, in joules."""
    tick_s: float = 0.0
    """How old a reading may be, in seconds."""

    @classmethod
    @abstractmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Meter:
        """`root` is the root of the file system whose /sys and /proc it reads. Raises `Unavailable`."""

    @abstractmethod
    def read(self) -> Reading:
        """The counter now. Raises `Unavailable` if it cannot be read any more."""

    def resume(self) -> None:  # noqa: B027 - a counter of the hardware always counts
        """Begins to count."""

    def pause(self) -> None:  # noqa: B027
        """Stops counting; nothing of the meter runs until `resume`."""

    def condition(self) -> Condition:
        """Clocks, temperature, throttling as this meter sees them."""
        return Condition()

    def slowed(self) -> tuple[str, ...]:
        """What slows the device at this moment, as `condition` would word it; quick enough to ask while it works."""
        return ()
