"""Where things are kept: the artifact cache, the store and the data folder, from options and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


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
    results.mkdir(parents=True, exist_ok=True)
    return results / "pressbench.db"


def data_folder(option: str | None, environment: Mapping[str, str]) -> str | None:
    """The folder of downloaded data sets: `--data`, else PRESSBENCH_DATA."""
    return option or environment.get("PRESSBENCH_DATA")
