"""Who uses the board: one owner at a time, whose file lock ends with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import time
from pathlib import Path
from typing import IO

from bench.device.board.agent.answers import Refused, Request, answer
from bench.device.board.agent.files import read
from bench.device.board.agent.processes import began, boot_id, end_process, remove_job, runner_of

GRACE_S = 60.0
"""How long the job of a user whose link was lost is left running when another user asks for the board."""
SILENT_S = 30.0
"""A holder ends when its host has said nothing for so long: it sends a byte every few seconds."""
NOTE_BYTES = 1024
"""Longer than any note."""


def hold(folder: Path, request: Request) -> None:
    """Keeps the board for one owner as long as the host is there: it sends bytes, and its link ends this process."""
    file = take(folder, request["owner"])
    answer({"held": True})
    while select.select([0], [], [], SILENT_S)[0] and os.read(0, 4096):
        pass
    note(file, request["owner"], lost=time.clock_gettime(time.CLOCK_BOOTTIME))


def take(folder: Path, owner: str) -> IO[str]:
    """The lock file, locked. Breaks the lock of an owner that is gone; refuses while one is there."""
    path = folder / "lock"
    path.touch()
    file = path.open("r+", encoding="utf-8")
    end = time.monotonic() + 5
    while not lock(file):
        noted = noted_in(path)
        if noted.get("owner", owner) != owner or time.monotonic() > end:
            raise Refused("busy", str(noted.get("owner", "another user")))
        if noted:
            end_process(int(noted["pid"]), str(noted["began"]))  # of this owner's link that froze
        time.sleep(0.05)
    noted = noted_in(path)
    if noted.get("owner") != owner:
        evict(folder, noted)
    note(file, owner)
    return file


def evict(folder: Path, noted: Request) -> None:
    """Removes the jobs of an owner that is gone. One whose link was lost a moment ago may come back to its job."""
    jobs = list((folder / "jobs").iterdir())
    if noted.get("boot") == boot_id() and any(map(runner_of, jobs)):
        lost = noted["since"] if noted["lost"] is None else noted["lost"]
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - lost
        if ago < GRACE_S:
            raise Refused("busy", f"{noted['owner']}, whose link was lost {ago:.0f} s ago")
    for job in jobs:
        remove_job(job)


def lock(file: IO[str]) -> bool:
    """Takes the file lock if it is free. The kernel frees it when its process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def note(file: IO[str], owner: str, lost: float | None = None) -> None:
    """Writes into the lock file who has it. Seconds count from the boot: the board's date may be wrong.

    One write over what was there: a process killed meanwhile leaves the old text or the new one, never none.
    """
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    values = {"owner": owner, "pid": os.getpid(), "began": began(os.getpid()), "boot": boot_id(), "since": since}
    text = json.dumps({**values, "lost": lost}).ljust(NOTE_BYTES).encode()
    os.pwrite(file.fileno(), text, 0)
    os.ftruncate(file.fileno(), len(text))


def noted_in(path: Path) -> Request:
    """What the lock file says; {} where it says nothing."""
    try:
        found = json.loads(read(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"owner", "pid", "began", "boot", "since", "lost"} <= set(found) else {}
