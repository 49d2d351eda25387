"""Which process makes or uses an entry of the cache: locks that the kernel frees, and files of marks."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.owner import lives, parse, this_process

IN_USE = ".in-use"
GUARD = ".lock"
UNSEEN_FOR_S = 86_400.0
"""How long the marks of a process on another machine hold."""


@contextmanager
def locked(file: Path, *, shared: bool = False, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Holds a lock on `file`, which is created for it; the kernel frees the lock when its process ends, however it ends.

    `shared`: others may hold it in the same way at the same time. `remove`: removes the file at the end; those who
    wait for it create it again. Raises `BlockingIOError` if not `wait` and another process holds it.
    """
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    descriptor = _lock(file, mode)
    try:
        yield
    finally:
        if remove:
            file.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(file: Path, mode: int) -> int:
    """An open descriptor of the file that is at this place, locked. Its holder may remove it while this process waits."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, mode)
            if _is_open_as(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_open_as(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def mark(cache: Path, entry: str) -> None:
    """Notes that this process uses the entry. The first line of its file is the owner, each other line an entry."""
    file, owner = own_marks(cache), this_process()
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with locked(cache / GUARD):  # no process is just beginning its file
            _forget_ended(file.parent)
    with locked(cache / GUARD, shared=True), file.open("a", encoding="utf-8") as stream:
        head = "" if stream.tell() else f"{owner.text}\n"
        stream.write(f"{head}{entry}\n")


def own_marks(cache: Path) -> Path:
    """The file of marks of this process."""
    owner = this_process()
    return cache / IN_USE / f"{owner.pid}-{owner.started:.2f}"


def _forget_ended(marks: Path) -> None:
    """Removes the files of processes that have ended."""
    for file in marks.iterdir():
        if not entries_in_use(file):
            file.unlink(missing_ok=True)


def entries_in_use(marks: Path) -> frozenset[str]:
    """The entries, as KIND/NAME, that the process of this file of marks uses; none if it has ended.

    A process of another machine cannot be seen. It counts as running for a day after its last mark.
    """
    try:
        owner_line, *entries = marks.read_text(encoding="utf-8").splitlines() or [""]
        owner = parse(owner_line)
        runs = lives(owner) if owner else False
        if runs is None:
            runs = time.time() - marks.stat().st_mtime < UNSEEN_FOR_S
    except FileNotFoundError:
        return frozenset()
    return frozenset(entries if runs else ())
