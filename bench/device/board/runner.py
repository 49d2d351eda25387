"""Runs one worker on a board and ends with it: keeps its time limit and lets nothing that it started live on.

`python3 -I -S runner.py JOB`, in a session of its own, so that a lost link ends nothing. `JOB/start.json` has `command`,
`environment` and `limit_s`. The worker's events go to `JOB/events`; the last line there is the runner's own, `{"runner":
{...}}`. While the worker runs, this process sleeps in the kernel. Standard library only, Python 3.10.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
STDERR_TAIL = 1500


def run(job: Path) -> None:
    """The runner's last line is written whatever happens to the worker."""
    asked = json.loads((job / "start.json").read_text(encoding="utf-8"))
    try:
        events = os.open(job / "events", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
    except FileExistsError:
        return  # this job was started before
    announce(job)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    adopt_orphans()
    said: dict[str, Any] = {"code": None, "why": ""}
    try:
        said = watch(asked, job, events)
    except OSError as error:
        said["why"] = f"it did not start: {error}"
    kill_descendants(guard_of(job))
    said["stderr"] = tail(job / "stderr.log")
    said["outputs"] = describe_file(job / "outputs.npz")
    os.write(events, b"\n" + json.dumps({"runner": said}).encode() + b"\n")


def watch(asked: dict[str, Any], job: Path, events: int) -> dict[str, Any]:
    """Exit code of the worker, and why it was killed if it was."""
    with (job / "stderr.log").open("wb") as log:
        worker = subprocess.Popen(
            asked["command"],
            stdin=subprocess.DEVNULL,
            stdout=events,
            stderr=log,
            cwd=job,
            env={**os.environ, **asked["environment"]},
            start_new_session=True,
        )
    awaited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)  # after the start: a worker inherits what is blocked
    end = time.monotonic() + asked["limit_s"]
    while worker.poll() is None:
        left = end - time.monotonic()
        if left <= 0:
            return {"code": None, "why": "limit"}
        found = signal.sigtimedwait(awaited, left)
        if found is not None and found.si_signo == signal.SIGTERM:
            return {"code": None, "why": "asked"}
    return {"code": worker.returncode, "why": ""}


def announce(job: Path) -> None:
    """Says which process the runner is, once it is ready to be followed and killed."""
    part = job / "runner.part"
    part.write_text(f"{os.getpid()} {began(os.getpid())}", encoding="utf-8")
    part.replace(job / "runner")


def began(pid: int) -> str:
    """As the agent's."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return "{}@{}".format(fields[19], Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())


def adopt_orphans() -> None:
    """Linux makes this process the parent of every process below it whose own parent ends: none escapes."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def guard_of(job: Path) -> int:
    """The process that restores the board's settings when the worker is gone: it lives on; 0 if there is none."""
    try:
        return int((job / "guard").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def kill_descendants(guard: int = 0) -> None:
    """SIGKILL to everything below this process but the guard and its own, until nothing is left."""
    for _ in range(200):
        below = descendants(os.getpid())
        if guard in below:
            below -= descendants(guard) | {guard}
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        if not below:
            return
        time.sleep(0.01)


def reap() -> None:
    """Takes the exit codes of children that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError as error:
        if error.errno != errno.ECHILD:
            raise


def descendants(root: int) -> set[int]:
    """Process ids below a process, those that ended left out."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it has just ended
        if state not in "ZX":
            parents[int(path.parent.name)] = int(parent)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def tail(path: Path) -> str:
    """The last words of a log."""
    try:
        return path.read_bytes()[-STDERR_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""


def describe_file(path: Path) -> dict[str, Any] | None:
    """Size and SHA-256 of the outputs; None where there are none."""
    found, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
                size += len(chunk)
    except OSError:
        return None
    return {"size": size, "sha256": found.hexdigest()}


if __name__ == "__main__":
    run(Path(sys.argv[1]))
