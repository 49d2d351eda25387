"""Numbers in files of /sys, and what to say when they cannot be read."""

from __future__ import annotations

from pathlib import Path

from bench.errors import Unavailable


def read_text(path: Path) -> str:
    """The stripped text of a small file. Raises `OSError`."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def read_number(path: Path) -> int:
    """The whole number in a file. Raises `OSError`, or `ValueError` for anything else in it."""
    return int(read_text(path))


def read_or(path: Path, default: str) -> str:
    """The text of a file, or `default` where it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return default


def unwind(before: int, now: int, limit: int, what: str) -> int:
    """What a counter that wraps at `limit` grew by, at most by half of it. Raises `Unavailable` for one that fell otherwise: a
    suspend or a driver that was loaded again has reset it, or its limit is wrong."""
    if now >= before:
        return now - before
    found = now - before + limit
    if not 0 <= found <= limit / 2:
        raise Unavailable(
            f"{what} fell from {before} to {now} and wraps at {limit}: it was reset, and its count is lost"
        )
    return found


def refused(what: str, error: Exception, remedy: str) -> Unavailable:
    """The error for a meter's file that cannot be read: `remedy` for a refused permission, else what the system says."""
    if isinstance(error, PermissionError):
        return Unavailable(f"{what} cannot be read: your user may not open {error.filename}; {remedy}")
    return Unavailable(f"{what} cannot be read ({error})")
