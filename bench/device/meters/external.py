"""A meter beside the board: the worker only marks its windows, the host reads the meter and fills in the joules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Meter, Reading
from bench.records import PENDING
from bench.types import Scalar


@final
class External(Meter):
    """Counts nothing itself. Its windows wait for the trace."""

    name: ClassVar[str] = "external"
    source: ClassVar[str] = PENDING
    covers: ClassVar[str] = "whatever the meter is wired to: the whole board where it feeds it"
    min_window_s: ClassVar[float] = 2.0
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "port": (),
        "baud": (),
        "volts": (),
        "rate": (),
        "clock": ("same", "search"),
    }

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> External:
        """Opens nothing: the meter is the host's."""
        del root, options
        return cls()

    def read(self) -> Reading:
        """No joules, only the time."""
        return Reading(joules=0.0, at_ns=perf_counter_ns())
