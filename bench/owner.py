"""Which process something belongs to, and whether that process still runs: runs, cache entries in use, temporary folders."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

START_TOLERANCE_S = 5.0
"""The wall-clock start time of a process drifts with corrections of the clock. It is all that older versions noted."""
OWNER_FILE = ".owner"
MAX_PID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process. A later process with the same id has another start time (seconds since 1970). `kernel`: the boot and the
    process namespace that its id is of; `machine`: the id of its system, whatever its name; "" where that is not known.
    `ticks`: the kernel's, from its boot to the start, which no change of the clock moves; 0 where that is not known."""

    host: str
    pid: int
    started: float
    kernel: str = ""
    machine: str = ""
    ticks: int = 0

    @property
    def text(self) -> str:
        """One line of JSON, as stored in a database or a file."""
        return json.dumps(asdict(self), sort_keys=True)


def this_process() -> Owner:
    """The process that calls this."""
    process = psutil.Process()
    return Owner(
        host=platform.node(),
        pid=process.pid,
        started=process.create_time(),
        kernel=this_kernel(),
        machine=this_machine(),
        ticks=find_ticks(process.pid),
    )


def find_ticks(pid: int) -> int:
    """As of `Owner`. From /proc/PID/stat (proc(5), field 22); 0 for a process that is not there."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return int(after_name.split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def this_machine() -> str:
    """As of `Owner`."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def this_kernel() -> str:
    """As of `Owner`. Two machines of one name, and two containers on one, differ in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def parse(text: str) -> Owner | None:
    """Inverse of `Owner.text`; None for text that names no owner (empty in a run of schema 1)."""
    try:
        match json.loads(text):
            case {"host": str(host), "pid": int(pid), "started": float(started), **more} if 0 < pid <= MAX_PID:
                known = {name: str(more.get(name, "")) for name in ("kernel", "machine")}
                ticks = more.get("ticks", 0)
                return Owner(host=host, pid=pid, started=started, ticks=ticks if isinstance(ticks, int) else 0, **known)
    except (ValueError, RecursionError):
        pass
    return None


def lives(owner: Owner) -> bool | None:
    """Whether the process still runs; None if it runs on another machine or in another container, where it cannot be seen."""
    if owner.host != platform.node() or _is_apart(owner):
        return None
    try:
        process = psutil.Process(owner.pid)
        if owner.ticks and owner.kernel and owner.kernel == this_kernel():
            same = find_ticks(owner.pid) == owner.ticks
        else:
            same = abs(process.create_time() - owner.started) < START_TOLERANCE_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_apart(owner: Owner) -> bool:
    """Whether it is of another system of this name, or of another process namespace of this boot."""
    if owner.machine and this_machine() and owner.machine != this_machine():
        return True
    (boot, _, space), (our_boot, _, our_space) = owner.kernel.partition(":"), this_kernel().partition(":")
    return bool(boot) and boot == our_boot and space != our_space


def has_ended(owner: Owner) -> bool:
    """Whether a process is certainly gone. False for one that cannot be seen from here."""
    return bool(owner.kernel) and owner.kernel == this_kernel() and lives(owner) is False


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """An empty folder in the temporary directory, removed at the end; its owner is noted, so that
    `remove_abandoned` can remove it if this process is killed.

    The folder holds one hidden file, `.owner`. Raises `OSError` if it cannot be created.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        (folder / OWNER_FILE).write_text(this_process().text, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(prefix: str) -> tuple[Path, ...]:
    """Removes this user's temporary folders of that prefix whose owner has ended; returns those it removed.

    Leaves folders without a note of their owner, and those of other machines.
    """
    found = Path(tempfile.gettempdir()).glob(f"{prefix}*")
    abandoned = tuple(folder for folder in found if _is_abandoned(folder))
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    return abandoned


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return False
        owner = parse((folder / OWNER_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False
    return owner is not None and lives(owner) is False
