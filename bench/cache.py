"""The one cache of the host: folders of files, named by everything they were made from and checked when they are read.

`find_or_make` is the only function that writes entries. Layout of the cache's folder:

    KIND/NAME/           one entry: its files, and `entry.json` with their digests and facts under a seal
    KIND/.part-NAME/     an entry that is being made; renamed to NAME when it is whole
    KIND/.lock-NAME      held by the process that makes NAME; others wait for it
    .in-use/             one file per process with the entries it uses (`bench.marks`): `bench.upkeep` leaves those
    .lock                guards `.in-use` against a `prune` of `bench.upkeep` at the same time

The folder may be the local copy of a URL (`bench.shared_cache`): entries are fetched from there, or put there when made.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from bench.errors import Unavailable, full_disk_ends
from bench.marks import GUARD, entries_in_use, locked, mark, own_marks
from bench.shared_cache import Shared, find_shared
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
SHARED: frozenset[Kind] = frozenset({"models", "trained", "compressed", "compiled", "calibration", "inlined"})
"""What other machines may use. The rest is not named by all it depends on: measured times, a user's own samples."""
SIDECAR = "entry.json"
LOCK = ".lock-"
PART = ".part-"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOLCK, errno.EOPNOTSUPP)
"""What the kernel says of a write or a lock without naming the file."""
WAITING = "waiting for another process that makes the same file"
PROBE_BYTES = 64 * 1024
"""How much `check_writable` writes. It finds a full disk, not one that is about to be full."""

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

    Raises `Unavailable` for a folder that cannot be created or written, a file in its place, a full disk; and as
    `Shared`, which says what else is wrong with a URL.
    """
    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
        with locked(cache / GUARD):
            pass
    if shared := find_shared(cache):
        shared.check()


def find_or_make(cache: Path, kind: Kind, name: str, make: Make, progress: Progress | None = None) -> Entry:
    """The entry; `make` makes it if it is missing or damaged.

    An entry appears whole or not at all. Of several processes that want the same entry, one makes it and the others
    wait for it, which `progress` says; if the maker is killed, the next one makes it. `make` must not ask for the same
    entry again.

    Raises `Unavailable` if the cache cannot be written (`DiskFull` if no space is left), and whatever else `make` raises.
    """
    found = _read(cache, kind, name)
    if found is not None:
        return found
    folder, shared = cache / kind / name, _shared(cache, kind)
    with _making(cache, folder, progress):
        found = _read(cache, kind, name) or _fetch(shared, folder)  # another process may have made it meanwhile
        if found is not None:
            return found
        made = _make(folder, make)
    if shared is not None:
        shared.put(f"{kind}/{name}", folder)
    return made


def read(cache: Path, kind: Kind, name: str) -> Entry | None:
    """The entry, marked as used by this process until it ends; None if it is missing or damaged.

    Damaged: the sidecar's seal or a file's digest does not match. Raises `Unavailable` if the mark cannot be written.
    """
    found, shared = _read(cache, kind, name), _shared(cache, kind)
    if found is not None or shared is None:
        return found
    folder = cache / kind / name
    with _making(cache, folder):
        return _read(cache, kind, name) or _fetch(shared, folder)


def forget(cache: Path, kind: Kind, name: str) -> None:
    """Removes an entry, where it is, so that the next who asks makes it. Raises `Unavailable` if the cache cannot be written."""
    folder = cache / kind / name
    with _making(cache, folder):
        shutil.rmtree(folder, ignore_errors=True)


def put_used(cache: Path) -> list[str]:
    """Puts what this process has used where its cache is shared: it may have been made before. Why something is not there."""
    used = [name for name in sorted(entries_in_use(own_marks(cache))) if (cache / name / SIDECAR).is_file()]
    chosen = [(name, _shared(cache, cast("Kind", name.partition("/")[0]))) for name in used]
    return list(dict.fromkeys(why for name, shared in chosen if shared and (why := shared.put(name, cache / name))))


def _shared(cache: Path, kind: Kind) -> Shared | None:
    return find_shared(cache) if kind in SHARED else None


def _read(cache: Path, kind: Kind, name: str) -> Entry | None:
    folder = cache / kind / name
    if not folder.is_dir():
        return None
    with _writing(cache):
        mark(cache, f"{kind}/{name}")
    found = _check(folder)
    if found is not None:
        with suppress(OSError):
            os.utime(folder / SIDECAR)  # the time of its last use
    return found


def _check(folder: Path) -> Entry | None:
    """What is in the folder, if its seal and all digests match."""
    try:
        sealed = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        body = sealed["body"]
        if sealed["seal"] != _seal(body) or not set(body["digests"]) <= set(_files(folder)):
            return None
        if any(sha256(folder / n) != d for n, d in body["digests"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Entry(folder=folder, digests=body["digests"], facts=body["facts"])


def _fetch(shared: Shared | None, folder: Path) -> Entry | None:
    """The entry from where the cache is shared. The caller holds its lock."""
    name = f"{folder.parent.name}/{folder.name}"
    if shared is None:
        return None
    with _part_of(folder) as part:
        if not shared.fetch(name, part):
            return None
        found = _check(part)
        if found is None or _files(part) != sorted([SIDECAR, *found.digests]):
            shared.say_damaged(name, "its digests do not match")
            return None
        _take_place(part, folder)
    return replace(found, folder=folder)


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


@contextmanager
def _making(cache: Path, folder: Path, progress: Progress | None = None) -> Iterator[None]:
    """Holds the lock of an entry. `Unavailable` and `DiskFull` for what the disk refuses."""
    with _writing(cache), full_disk_ends(f"the cache at {cache} (PRESSBENCH_CACHE)"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked_to_make(folder.with_name(f"{LOCK}{folder.name}"), progress):
            yield


def _make(folder: Path, make: Make) -> Entry:
    """Makes the entry beside its place and renames it. The caller holds the lock of this entry."""
    with _part_of(folder) as part:
        facts = make(part)
        digests = {name: sha256(part / name) for name in _files(part)}
        body = json.loads(json.dumps({"digests": digests, "facts": dict(facts)}))
        (part / SIDECAR).write_text(json.dumps({"seal": _seal(body), "body": body}, indent=1), encoding="utf-8")
        _take_place(part, folder)
    return Entry(folder=folder, digests=body["digests"], facts=body["facts"])


@contextmanager
def _part_of(folder: Path) -> Iterator[Path]:
    """An empty folder beside the entry's, removed in the end unless it took its place."""
    part = folder.with_name(f"{PART}{folder.name}")
    shutil.rmtree(part, ignore_errors=True)  # a maker was killed
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _take_place(part: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # a damaged entry
    mark(folder.parent.parent, f"{folder.parent.name}/{folder.name}")
    part.rename(folder)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


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
