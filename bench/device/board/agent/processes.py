"""Processes of the board by when they began, and what ends a job."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from bench.device.board.agent.files import read


def remove_job(job: Path) -> None:
    """Ends a job, with its worker and all that it started, and removes its folder: asks the runner, then kills it."""
    runner = runner_of(job)
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        if runner_of(job) == runner > 0:
            os.kill(runner, number)
        while runner_of(job) and time.monotonic() < end:
            time.sleep(0.02)
    shutil.rmtree(job, ignore_errors=True)


def runner_of(job: Path) -> int:
    """Process id of the job's runner; 0 when it does not run (any more)."""
    pid, _, start_time = read(job / "runner").partition(" ")
    return int(pid) if pid.isdigit() and began(int(pid)) == start_time.strip() else 0


def end_process(pid: int, start_time: str) -> None:
    """SIGKILL to the process that began then, not to a later one with its id."""
    if pid > 0 and began(pid) == start_time:
        os.kill(pid, signal.SIGKILL)


def began(pid: int) -> str:
    """When a process began, in ticks since boot, with the boot: no two share id and beginning. "" for one that ended.

    From its main thread: an emulator of user programs (QEMU) shows its own process another beginning in /proc/PID/stat.
    """
    fields = read(Path(f"/proc/{pid}/task/{pid}/stat")).rpartition(")")[2].split()
    return "" if not fields or fields[0] in "ZX" else f"{fields[19]}@{boot_id()}"


def boot_id() -> str:
    """Another one after each boot."""
    return read(Path("/proc/sys/kernel/random/boot_id")).strip()
