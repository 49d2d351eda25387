"""The one cache of the host: folders of files, named by everything they were made from and checked when they are read.

`find_or_make` is the only function that writes entries. Layout of the cache's folder:

    KIND/NAME/           one entry: its files, and `entry.json` with their digests and facts under a seal
    KIND/.part-NAME/     an entry that is being made; renamed to NAME when it is whole
    KIND/.lock-NAME      held by the process that makes NAME; others wait for it
    .in-use/             one file per process with the entries it uses: `bench.upkeep` leaves those
    .lock                guards `.in-use` against a `prune` of `bench.upkeep` at the same time
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import Unavailable, full_disk_ends
from bench.owner import lives, parse, this_process
from bench.types import Json, Progress

Kind = Literal["models", "trained", "compressed", "compiled", "calibration", "inlined", "papers", "data", "tables"]
KINDS: Mapping[Kind, str] = {
    "models": "reference networks, trained",
    "trained": "networks after a training step of a recipe",
    "compressed": "compressed networks, exported",
    "compiled": "files that backends compiled",
    "calibration": "samples that runtimes calibrate on",
    "inlined": "ONNX files in one piece, with fixed axes",
    "papers": "findings of `make papers`",
    "data": "samples that a user's function gave",
    "tables": "latencies and rooflines that `search` and `doctor` measured on a target",
}
"""What an entry can be. The kind is the first part of its place in the cache."""
SIDECAR = "entry.json"
IN_USE = ".in-use"
GUARD = ".lock"
LOCK = ".lock-"
PART = ".part-"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOLCK, errno.EOPNOTSUPP)
"""What the kernel says of a write or a lock without naming the file."""
WAITING = "waiting for another process that makes the same file"
PROBE_BYTES = 64 * 1024
"""How much `check_writable` writes. It finds a full disk, not one that is about to be full."""
UNSEEN_FOR_S = 86_400.0
"""How long the marks of a process on another machine hold."""

Make = Callable[[Path], Mapping[str, Json]]
"""Writes the files of an entry into the empty folder it is given, and returns the facts to remember."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder of the cache. `digests`: SHA-256 of each file by its path in the folder; `facts`: what its maker returned."""

    folder: Path
    digests: Mapping[str, str]
    facts: Mapping[str, Json]


def key(**parts: Json) -> str:
    """A name of 32 hexadecimal digits that depends on every part; the same on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable(cache: Path) -> None:
    """Creates the cache's folder and writes a probe into it. Call it before anything is measured.

    Raises `Unavailable` for a folder that cannot be created or written, a file in its place, a full disk.
    """
    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
        with locked(cache / GUARD):
            pass


def find_or_make(cache: Path, kind: Kind, name: str, make: Make, progress: Progress | None = None) -> Entry:
    """The entry; `make` makes it if it is missing or damaged.

    An entry appears whole or not at all. Of several processes that want the same entry, one makes it and the others
    wait for it, which `progress` says; if the maker is killed, the next one makes it. `make` must not ask for the same
    entry again.

    Raises `Unavailable` if the cache cannot be written (`DiskFull` if no space is left), and whatever else `make` raises.
    """
    found = read(cache, kind, name)
    if found is not None:
        return found
    folder = cache / kind / name
    part = folder.with_name(f"{PART}{name}")
    with _writing(cache), full_disk_ends(f"the cache at {cache} (PRESSBENCH_CACHE)"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked_to_make(folder.with_name(f"{LOCK}{name}"), progress):
            found = read(cache, kind, name)  # another process may have made it meanwhile
            return found or _make(folder, part, make)


def read(cache: Path, kind: Kind, name: str) -> Entry | None:
    """The entry, marked as used by this process until it ends; None if it is missing or damaged.

    Damaged: the sidecar's seal or a file's digest does not match. Raises `Unavailable` if the mark cannot be written.
    """
    folder = cache / kind / name
    if not folder.is_dir():
        return None
    with _writing(cache):
        _mark(cache, f"{kind}/{name}")
    try:
        sealed = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        body = sealed["body"]
        if sealed["seal"] != _seal(body) or any(sha256(folder / n) != d for n, d in body["digests"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    with suppress(OSError):
        os.utime(folder / SIDECAR)  # the time of its last use
    return Entry(folder=folder, digests=body["digests"], facts=body["facts"])


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


@contextmanager
def _locked_to_make(lock: Path, progress: Progress | None) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False, remove=True))
        except BlockingIOError:
            if progress:
                progress(WAITING, 0.0)
            stack.enter_context(locked(lock, remove=True))
        yield


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


def _make(folder: Path, part: Path, make: Make) -> Entry:
    """Makes the entry beside its place and renames it. The caller holds the lock of this entry."""
    shutil.rmtree(part, ignore_errors=True)  # a maker was killed
    part.mkdir()
    try:
        facts = make(part)
        files = sorted(path for path in part.rglob("*") if path.is_file())
        digests = {path.relative_to(part).as_posix(): sha256(path) for path in files}
        body = json.loads(json.dumps({"digests": digests, "facts": dict(facts)}))
        (part / SIDECAR).write_text(json.dumps({"seal": _seal(body), "body": body}, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a damaged entry
        _mark(folder.parent.parent, f"{folder.parent.name}/{folder.name}")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Entry(folder=folder, digests=body["digests"], facts=body["facts"])


def _mark(cache: Path, entry: str) -> None:
    """Notes that this process uses the entry. The first line of its file is the owner, each other line an entry."""
    owner = this_process()
    marks = cache / IN_USE
    marks.mkdir(parents=True, exist_ok=True)
    file = marks / f"{owner.pid}-{owner.started:.2f}"
    if not file.exists():
        with locked(cache / GUARD):  # no process is just beginning its file
            _forget_ended(marks)
    with locked(cache / GUARD, shared=True), file.open("a", encoding="utf-8") as stream:
        head = "" if stream.tell() else f"{owner.text}\n"
        stream.write(f"{head}{entry}\n")


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


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Around what writes the cache: `Unavailable` for what the disk refuses.

    Passes on an `OSError` about something else: `make` reads and writes files of its own.
    """
    try:
        yield
    except OSError as error:
        if not _is_about(error, cache):
            raise
        raise Unavailable(
            f"cannot write the cache at {cache}: {error.strerror or error}; "
            "set PRESSBENCH_CACHE to a folder that can be written, with space left"
        ) from error


def _is_about(error: OSError, cache: Path) -> bool:
    if error.filename is None:
        return error.errno in DISK_ERRORS
    place = Path(os.fsdecode(error.filename))
    return place == cache or cache in place.parents or place in cache.parents


def _seal(body: Json) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
