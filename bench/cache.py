"""The artifact cache: folders and files named by what they follow from, written whole, checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Unavailable
from bench.types import Json

SIDECAR = "entry.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder of the cache. `digests`: SHA-256 of each file; `facts`: what its maker wanted remembered."""

    folder: Path
    digests: Mapping[str, str]
    facts: Mapping[str, Json]


def key(**parts: Json) -> str:
    """A name that covers every part, the same on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256(file: Path) -> str:
    """Digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def entry(folder: Path, make: Callable[[], tuple[Mapping[str, bytes], Mapping[str, Json]]]) -> Entry:
    """The entry at `folder`, made (files by name, facts) if it is missing or damaged.

    A folder appears whole or not at all: it is written aside and renamed, and when two processes
    make the same one, the first stays. Raises `Unavailable` when it cannot be written (full disk).
    """
    found = read(folder)
    if found is not None:
        return found
    files, facts = make()
    try:
        return _write(folder, files, facts)
    except OSError as error:
        raise Unavailable(f"cannot write the cache at {folder}: {error.strerror}; free space or move it") from error


def read(folder: Path) -> Entry | None:
    """The entry at `folder`; None for one that is missing or not what was written."""
    try:
        sealed = json.loads((folder / SIDECAR).read_text())
        body = sealed["body"]
        if sealed["seal"] != _seal(body) or any(sha256(folder / n) != d for n, d in body["digests"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Entry(folder=folder, digests=body["digests"], facts=body["facts"])


def write_file(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Raises `Unavailable` when it cannot be written (full disk)."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=file.parent, prefix=".aside-")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(aside).replace(file)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot write the cache at {file}: {error.strerror}; free space or move it") from error


def _write(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Json]) -> Entry:
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".aside-"))
    try:
        for name, content in files.items():
            (aside / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        body = {"digests": digests, "facts": dict(facts)}
        (aside / SIDECAR).write_text(json.dumps({"seal": _seal(body), "body": body}, indent=1))
        _move(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    written = read(folder)
    if written is None:
        raise Unavailable(f"{folder} does not read back as it was written; the disk is faulty or something else writes")
    return written


def _move(aside: Path, folder: Path) -> None:
    """Puts a new folder in place; a damaged one is moved out first, a good one of another process stays."""
    try:
        aside.rename(folder)
    except OSError:
        if read(folder) is not None:
            return
        shutil.rmtree(folder)
        aside.rename(folder)


def _seal(body: Json) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
