"""Which process a run belongs to, and whether that process still lives."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass

import psutil

START_TOLERANCE_S = 5.0
"""The wall-clock start time of a process drifts with corrections of the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, told apart from a later one with the same id by when it started."""

    host: str
    pid: int
    started: float

    @property
    def text(self) -> str:
        """As kept in the store."""
        return json.dumps(asdict(self), sort_keys=True)


def this_process() -> Owner:
    """The owner of the runs that this process begins."""
    process = psutil.Process()
    return Owner(host=platform.node(), pid=process.pid, started=process.create_time())


def parse(text: str) -> Owner | None:
    """Inverse of `Owner.text`; None where nobody was noted (a run of schema 1)."""
    return Owner(**json.loads(text)) if text else None


def lives(owner: Owner) -> bool | None:
    """Whether the process still runs; None where it is another machine's and cannot be seen."""
    if owner.host != platform.node():
        return None
    try:
        process = psutil.Process(owner.pid)
        same = abs(process.create_time() - owner.started) < START_TOLERANCE_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
