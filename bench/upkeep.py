"""Upkeep of the cache: what it holds, and removing what was used least recently and what killed processes left."""

from __future__ import annotations

import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.cache import KINDS, LOCK, PART, SIDECAR
from bench.errors import Unavailable
from bench.marks import GUARD, IN_USE, entries_in_use, locked
from bench.shared_cache import COPIES

ENGINES = "tensorrt"
"""Written by the backend `trt` itself, because it builds engines on the device: see `backends/trt/engines.py`."""
ENGINE_FILE = re.compile(r"(?P<engine>[0-9a-f]{32})\.(engine|json)|(?P<timings>.+)\.timings")
TOOL = "arm"
"""The emulated board of `make arm`: shown, never removed."""
OTHER = "other"
MEANINGS: Mapping[str, str] = {
    **{str(kind): meaning for kind, meaning in KINDS.items()},
    ENGINES: "TensorRT's engines and timings",
    TOOL: "the emulated ARM board of `make arm`",
    COPIES: "local copies of caches at a URL",
    OTHER: "not written by this version",
}
GONE = ".gone-"
MAKING = (PART, LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One thing in the cache. `size`: bytes of its files; `used`: time of its last use, seconds since 1970; `prunable`:
    whether `prune` may remove it; `in_use`: by a process that still runs."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int
    used: float
    prunable: bool = True
    in_use: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What `prune` removed or, in a dry run, would remove. `spared`: chosen, but used by a running process;
    `leftovers`: what killed processes left; `left`: the entries that stay."""

    removed: tuple[Kept, ...]
    spared: tuple[Kept, ...]
    leftovers: tuple[Path, ...]
    left: tuple[Kept, ...]


def survey(cache: Path) -> tuple[Kept, ...]:
    """Everything in the cache's folder but the leftovers and marks of processes; () for a folder that does not exist.

    Raises `Unavailable` for a folder that cannot be read.
    """
    try:
        return tuple(_survey(cache))
    except OSError as error:
        raise Unavailable(f"cannot read the cache at {cache}: {error.strerror or error}") from error


def _survey(cache: Path) -> list[Kept]:
    used = _in_use(cache)
    found: list[Kept] = []
    for folder in _visible(cache):
        if folder.name in KINDS:
            found += _entries(folder, used)
        elif folder.name == ENGINES:
            found += _engines(folder)
        else:
            kind = folder.name if folder.name in {TOOL, COPIES} else OTHER
            found.append(_kept(kind, folder.name, (folder,), folder, prunable=False))
    return found


def prune(cache: Path, *, older_than_s: float | None, max_bytes: int | None, dry_run: bool, now: float) -> Pruned:
    """Removes entries not used for `older_than_s`, then the least recently used ones until all entries together have
    at most `max_bytes`; always removes what killed processes left.

    Never removes an entry that a running process uses, nor anything `find_or_make` did not write.
    Raises `Unavailable` if the disk refuses.
    """
    if not cache.is_dir():
        return Pruned(removed=(), spared=(), leftovers=(), left=())
    try:
        leftovers = _clear_leftovers(cache, dry_run=dry_run)
        with locked(cache / GUARD):  # no process begins to use an entry until the chosen ones are out of the way
            entries = [item for item in survey(cache) if item.prunable]
            chosen = _choose(entries, older_than_s=older_than_s, max_bytes=max_bytes, now=now)
            removed = tuple(item for item in chosen if not item.in_use)
            out_of_the_way = [] if dry_run else [_move_away(path) for item in removed for path in item.paths]
        for path in out_of_the_way:
            _remove(path)
    except OSError as error:
        raise Unavailable(f"cannot prune the cache at {cache}: {error.strerror or error}") from error
    return Pruned(
        removed=removed,
        spared=tuple(item for item in chosen if item.in_use),
        leftovers=leftovers,
        left=tuple(item for item in entries if item not in removed),
    )


def _choose(entries: Sequence[Kept], *, older_than_s: float | None, max_bytes: int | None, now: float) -> list[Kept]:
    """What to remove, least recently used first. An entry in use frees nothing, so others go in its place."""
    chosen: list[Kept] = []
    size = sum(item.size for item in entries)
    for item in sorted(entries, key=lambda item: (item.used, item.kind, item.name)):
        too_old = older_than_s is not None and now - item.used > older_than_s
        too_much = max_bytes is not None and size > max_bytes
        if too_old or too_much:
            chosen.append(item)
            size -= 0 if item.in_use else item.size
    return chosen


def _entries(folder: Path, used: frozenset[str]) -> Iterator[Kept]:
    """The entries of one kind. A folder without a sidecar or a single file is of another version, or not ours."""
    for path in _visible(folder):
        sidecar, name = path / SIDECAR, f"{folder.name}/{path.name}"
        if sidecar.is_file():
            yield _kept(folder.name, path.name, (path,), sidecar, in_use=name in used)
        else:
            yield _kept(OTHER, name, (path,), path, prunable=False)


def _engines(folder: Path) -> Iterator[Kept]:
    """An engine and the facts beside it are one thing. A session reads them whole, so removing one in use harms none."""
    groups: dict[str, list[Path]] = {}
    for path in _visible(folder):
        if match := ENGINE_FILE.fullmatch(path.name):
            groups.setdefault(match["engine"] or match["timings"], []).append(path)
        else:
            yield _kept(OTHER, f"{ENGINES}/{path.name}", (path,), path, prunable=False)
    for name, paths in groups.items():
        yield _kept(ENGINES, name, tuple(paths), paths[-1])


def _kept(
    kind: str, name: str, paths: tuple[Path, ...], used: Path, *, prunable: bool = True, in_use: bool = False
) -> Kept:
    size = sum(_bytes(path) for path in paths)
    return Kept(kind=kind, name=name, paths=paths, size=size, used=_mtime(used), prunable=prunable, in_use=in_use)


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # another process replaces it just now
        return time.time()


def _bytes(path: Path) -> int:
    """Of the files at and below a path; a link counts as itself."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # another process has just removed it
        return 0
    if not stat.S_ISDIR(found.st_mode):
        return found.st_size
    return sum(_bytes(child) for child in _children(path))


def _visible(folder: Path) -> list[Path]:
    return [path for path in _children(folder) if not path.name.startswith(".")]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _in_use(cache: Path) -> frozenset[str]:
    """The entries, as KIND/NAME, that running processes have marked."""
    return frozenset[str]().union(*(entries_in_use(marks) for marks in _children(cache / IN_USE)))


def _clear_leftovers(cache: Path, *, dry_run: bool) -> tuple[Path, ...]:
    """Removes what killed processes left, and returns it."""
    found: list[Path] = []
    for folder in [cache / kind for kind in (*KINDS, ENGINES)]:
        hidden = [path.name for path in _children(folder) if path.name.startswith(".")]
        for name in sorted({name.removeprefix(PART).removeprefix(LOCK) for name in hidden if name.startswith(MAKING)}):
            found += _clear_part(folder, name, dry_run=dry_run)
        for path in [folder / name for name in hidden if not name.startswith(MAKING) and _is_abandoned(name)]:
            found.append(path)
            if not dry_run:
                _remove(path)
    return tuple(found)


def _clear_part(folder: Path, name: str, *, dry_run: bool) -> list[Path]:
    """Removes the half-made entry and its lock. Whoever makes it holds the lock: then there is nothing to clear."""
    lock, part = folder / f"{LOCK}{name}", folder / f"{PART}{name}"
    found = [path for path in (part, lock) if path.exists()]
    try:
        with locked(lock, wait=False, remove=not dry_run or lock not in found):
            if not dry_run:
                _remove(part)
    except BlockingIOError:
        return []
    return found


def _is_abandoned(name: str) -> bool:
    """Of a hidden name: entries that `prune` moved away, and what the backend `trt` began to write (`.NAME.PID`)."""
    pid = name.rpartition(".")[2]
    return name.startswith((GONE, ".aside-")) or (pid.isdigit() and not psutil.pid_exists(int(pid)))


def _move_away(path: Path) -> Path:
    """Renames an entry, so that no process finds it any more."""
    return path.rename(path.with_name(f"{GONE}{uuid.uuid4().hex}"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
