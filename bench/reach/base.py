"""The interface of a way to reach a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.device.job import Job

Event = Mapping[str, Any]


class Reach(ABC):
    """Where jobs run. Laws: a job runs in a fresh process; nothing of it is left running when
    `run` returns or raises; files the job names lie where the worker can read them."""

    counts: ClassVar[bool] = False
    """Whether it counts instructions instead of measuring time: then jobs are "count" jobs, and `run`
    adds events "count" with `instructions` and `memory_accesses` of one inference between two marks."""

    @abstractmethod
    def describe(self) -> str:
        """What the device is, for the column `device`."""

    @abstractmethod
    def run(self, job: Job, workdir: Path, limit_s: float) -> list[Event]:
        """The worker's events in order, ending with "end". Raises `CellFailed` when it hangs past
        `limit_s`, dies or prints what is no event; an "error" event raises the error it names."""
