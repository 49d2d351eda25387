"""Finds backends, compressors and meters by entry point and imports only the one asked for; versions of packages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

from bench.errors import Unavailable, unknown

GROUPS = {
    "backend": "pressbench.backends",
    "compressor": "pressbench.compressors",
    "meter": "pressbench.meters",
}


@cache
def available(kind: str) -> Mapping[str, EntryPoint]:
    """Name -> entry point of a kind ("backend", "compressor", "meter"). Imports none of them.

    Looked for once: it reads a file of every installed package, and a plan asks for each of its cells.
    """
    return {entry.name: entry for entry in entry_points(group=GROUPS[kind])}


def load(kind: str, name: str) -> Any:
    """The registered class. Raises `InvalidInput` for a name that is not registered, `Unavailable` if its import fails."""
    found = available(kind)
    if name not in found:
        raise unknown(kind, name, found)
    try:
        return found[name].load()
    except ImportError as error:
        raise Unavailable(f"{kind} {name!r} cannot be imported: {error}; install pressbench[{name}]") from error


def installed_version(distribution: str) -> str:
    """Version of an installed distribution; "" if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
