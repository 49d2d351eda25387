"""Where things are kept: the artifact cache, the store and the data folder, from options and the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.errors import Unavailable


def cache_folder(environment: Mapping[str, str]) -> Path:
    """PRESSBENCH_CACHE, else `pressbench` in XDG_CACHE_HOME or ~/.cache."""
    chosen = environment.get("PRESSBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pressbench"


def database(results: Path, url: str | None) -> str | Path:
    """The store of a results folder, or the SQLAlchemy URL somebody gave instead."""
    if url:
        return url
    with written(results, "--results"):
        results.mkdir(parents=True, exist_ok=True)
    return results / "pressbench.db"


@contextmanager
def written(place: Path, option: str) -> Iterator[None]:
    """Around writing what an option names. Raises `Unavailable`, naming both, when the disk refuses."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(f"{option} {place}: {why}; name a place you can write to, with space left") from error


def data_folder(option: str | None, environment: Mapping[str, str]) -> str | None:
    """The folder of downloaded data sets: `--data`, else PRESSBENCH_DATA."""
    return option or environment.get("PRESSBENCH_DATA")
