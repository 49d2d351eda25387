"""The interface of an energy meter. Registered in the entry-point group `pressbench.meters`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.types import Json


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
    a window shorter than `min_window_s` is not offered to it.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """"measured:<meter>" or "modelled:<model>"."""
    min_window_s: ClassVar[float]

    @classmethod
    @abstractmethod
    def open(cls, root: Path) -> Meter:
        """`root` is the root of the file system whose /sys and /proc it reads. Raises `Unavailable`."""

    @abstractmethod
    def read(self) -> Reading:
        """The counter now."""

    def condition(self) -> Condition:
        """Clocks, temperature, throttling as this meter sees them."""
        return Condition()

    def slowed(self) -> tuple[str, ...]:
        """What slows the device at this moment, as `condition` would word it; quick enough to ask while it works."""
        return ()
