"""Files of the board: by names that the host gives, read and written whole, and by content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from bench.device.board.agent.answers import Refused, Request, answer

NAME = re.compile(r"[0-9a-f]{8,64}")
CHUNK = 1 << 20


def place(folder: Path, kind: str, name: object) -> Path:
    """A path in the folder. The host is not trusted with paths: a name is hexadecimal digits."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refused("request", f"not a name: {name!r}")
    return folder / kind / name


def missing(folder: Path, request: Request) -> None:
    """Which files are not here."""
    answer({"missing": find_missing(folder, request["files"]), "free": shutil.disk_usage(folder).free})


def find_missing(folder: Path, files: dict[str, int]) -> dict[str, int]:
    """Hash -> bytes of it that have come, for each of `{hash: bytes}` that is not whole."""
    lacking = {}
    for name, size in files.items():
        path = place(folder, "blobs", name)
        if size_of(path) != size:
            lacking[name] = max(0, size_of(path.with_suffix(".part")))
    return lacking


def put(folder: Path, request: Request) -> None:
    """Appends to the part of a file from `offset` on; the last byte makes it whole. Another hash: nothing is kept."""
    path = place(folder, "blobs", request["hash"])
    part = path.with_suffix(".part")
    size, offset = int(request["size"]), int(request["offset"])
    part.touch()
    with part.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(min(offset, file.seek(0, os.SEEK_END)))
        if file.seek(0, os.SEEK_END) != offset:
            raise Refused("request", f"a file cannot begin at byte {offset}")
        while offset < size and (chunk := sys.stdin.buffer.read(min(CHUNK, size - offset))):
            file.write(chunk)
            offset += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if offset == size:
        if digest(part) != request["hash"]:
            part.unlink()
            raise Refused("corrupt", "a file arrived with another content than was sent")
        part.replace(path)
    answer({"have": offset})


def size_of(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def read(path: Path) -> str:
    """The text of a file; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
