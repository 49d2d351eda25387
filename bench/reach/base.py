"""The interface of a way to reach a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from bench.device.events import Counted, Event
from bench.device.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A worker's events in order, the last an `End`; and what an emulator counted, one entry per inference."""

    events: tuple[Event, ...]
    counts: tuple[Counted, ...] = ()


class Reach(ABC):
    """Where jobs run. Laws: a job runs in a fresh process; nothing of it is left running when
    `run` returns or raises; files the job names lie where the worker can read them."""

    counts: ClassVar[bool] = False
    """Whether it counts instructions instead of measuring time. Its jobs are then "count" jobs, and `Ended.counts`
    has one entry per inference between two marks."""

    infers: ClassVar[bool] = True
    """Whether a job's outputs come back."""

    lacks: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """CSV column -> why this way cannot fill it."""

    @abstractmethod
    def describe(self) -> str:
        """What the device is, for the column `device`."""

    def close(self) -> None:  # noqa: B027 - most reaches keep nothing open
        """Lets go of what is open between jobs."""

    @abstractmethod
    def run(self, job: Job, workdir: Path, limit_s: float) -> Ended:
        """Runs the job in a fresh worker.

        Raises `CellFailed` if the worker hangs past `limit_s`, dies, or prints anything but events; for a `Failed`
        event, the error that it names.
        """
