"""Where the cache, the store and the data sets are, by options and the environment."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from bench.errors import InvalidInput, Unavailable
from bench.shared_cache import EXAMPLES, VARIABLE, copy_folder


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of `bench.cache`: PRESSBENCH_CACHE, else `pressbench` in XDG_CACHE_HOME, else in ~/.cache.

    Of PRESSBENCH_CACHE_URL, the local copy, which is kept in there. Raises `InvalidInput` for what is not a folder or a URL.
    """
    base, url = _base_folder(environment), environment.get(VARIABLE)
    return copy_folder(base, url) if url else base


def cache_at(place: str, environment: Mapping[str, str]) -> Path:
    """The folder of a cache that another machine names: a folder that is here too, or the local copy of a URL."""
    return copy_folder(_base_folder(environment), place) if "://" in place else Path(place)


def _base_folder(environment: Mapping[str, str]) -> Path:
    chosen = environment.get("PRESSBENCH_CACHE")
    if chosen and "://" in chosen:
        raise InvalidInput(f"PRESSBENCH_CACHE is a folder, not {chosen}: name a URL in {VARIABLE}, as {EXAMPLES}")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pressbench"


def database(results: Path, url: str | None) -> str | Path:
    """The database file in a results folder, which is created; the SQLAlchemy `url` if the user gave one.

    Raises `Unavailable` for a folder that cannot be created.
    """
    if url:
        return url
    with written(results, "--results"):
        results.mkdir(parents=True, exist_ok=True)
    return results / "pressbench.db"


@contextmanager
def written(place: Path, option: str) -> Iterator[None]:
    """Around writing to `place`. Raises `Unavailable` that names `option` and `place` if the disk refuses."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(f"{option} {place}: {why}; name a place you can write to, with space left") from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written, which takes its place at the end, with the permissions of what was there.

    Where writing it fails, what was there stays whole. A device that a link leads to is written itself.
    Raises `PermissionError` where what was there may not be written.
    """
    place = path.resolve()
    known = place.exists()
    if known and not place.is_file():
        yield place
        return
    part = place.with_name(f".{place.name}.{uuid4().hex}")
    if known and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, f"{place.name}: {os.strerror(errno.EACCES)}")
    try:
        yield part
        if known:
            shutil.copymode(place, part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def check_results(results: Path) -> None:
    """Creates the folder of results and writes a probe into it: before anything is measured. Raises as `written`."""
    with written(results, "--results"):
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass


def data_folder(option: str | None, environment: Mapping[str, str]) -> str | None:
    """The folder of downloaded data sets: `--data`, else PRESSBENCH_DATA."""
    return option or environment.get("PRESSBENCH_DATA")
