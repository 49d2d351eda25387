"""What runs on a worker of a cluster: it plans as the host does, and makes the files of a cell."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter

from bench.cache import put_used
from bench.errors import InvalidInput, Unavailable
from bench.line.plan import Plan, PlannedCell, Request, make_plan
from bench.line.prepare import Setting, make_artifact
from bench.paths import cache_at
from bench.shared_cache import find_shared

Called = tuple[Callable[[Plan, str], tuple[Plan, PlannedCell]], str]
"""A function of a module, which finds a cell in a worker's plan by a text, and the text; it gives the plan of the cell too."""


def fill_cache(asked: str, called: Called, cache: str, folder: str, _before: object) -> str:
    """Runs on a worker: makes the files of one cell. `cache`: a folder or a URL. `folder`: where the user's own modules lie.

    Why it cannot; "" if it did. It raises nothing: Dask would give the tasks that wait for this one to no worker.
    """
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        find, text = called
        make_files(*find(_plan(asked, cache), text), cache_at(cache, os.environ))
    except Exception as error:  # noqa: BLE001 - making it on the host decides
        return f"{type(error).__name__}: {error}"
    return ""


def find_planned(plan: Plan, key: str) -> tuple[Plan, PlannedCell]:
    """The cell of the plan that has this key. Raises `InvalidInput`."""
    return plan, check_found(next((cell for cell in plan.cells if cell.key == key), None), key)


def check_found(cell: PlannedCell | None, key: str) -> PlannedCell:
    """The cell, if it is the host's. Raises `InvalidInput`."""
    if cell is None or cell.key != key:
        raise InvalidInput("this worker plans other cells than the host: its data or code differs")
    return cell


def make_files(plan: Plan, cell: PlannedCell, cache: Path) -> None:
    """Makes what a cell needs, and puts it where the cache is shared.

    Raises what making raises, and `Unavailable` where the host would not find the files.
    """
    shared = find_shared(cache)
    if shared and shared.trouble:
        raise Unavailable(shared.trouble)
    with tempfile.TemporaryDirectory(prefix="pressbench-cluster-") as work:
        setting = Setting(
            target=plan.target,
            cache=cache,
            folder=Path(work),
            progress=_quiet,
            measure=plan.suite.measure,
            seed=plan.suite.seed,
            data=cell.data,
            data_asked=plan.request.data is not None,
            calibrate=plan.calibrate,
        )
        make_artifact(cell.model, cell.recipe, cell.backend, cell.conditions, setting)
    if missing := put_used(cache):
        raise Unavailable("; ".join(missing))


@lru_cache(maxsize=1)
def _plan(asked: str, cache: str) -> Plan:
    return make_plan(TypeAdapter(Request).validate_python(json.loads(asked)), cache_at(cache, os.environ))


def _quiet(_what: str, _done: float) -> None:
    return None
