"""Makes cells ready on a Dask cluster: its workers train, compress and compile into the shared cache, this host measures.

Workers and host share one cache folder, in which each file is made once (`bench.cache`). So a task's answer is only that
the files are there: the host makes the cell ready as without a cluster, and finds everything made.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from pydantic import TypeAdapter

import bench
from bench.errors import InvalidInput, PressbenchError, Unavailable
from bench.line.cell import Ready, RunState, make_ready
from bench.line.plan import Plan, PlannedCell, Request, make_plan
from bench.line.prepare import Setting, make_artifact
from bench.line.stages import load_backend
from bench.reach.open import is_elsewhere

LOCAL = "local:"
CONNECT_S = 10.0
REMEDY = "pip install 'pressbench[cluster]'"


@final
class Cluster:
    """The cells of a run as tasks. Law: what `take` gives or raises is what `make_ready` does."""

    def __init__(self, client: Any, cells: Sequence[PlannedCell], state: RunState, note: Callable[[str], None]) -> None:
        self._note, self._gone = note, False
        asked = json.dumps(asdict(state.plan.request))
        cache = str(state.setting.cache.resolve())
        self._made: dict[str, Any] = {}
        first: dict[tuple[str, ...], Any] = {}
        for cell in cells:
            model, recipe = (cell.model.name,), (cell.model.name, cell.recipe.name)
            before = first.get(recipe) or first.get(model)  # what makes the training that this cell needs too
            task = client.submit(
                fill_cache, asked, cell.key, cache, str(Path.cwd()), before, key=f"{cell.key}-{uuid.uuid4()}"
            )
            self._made[cell.key] = first[recipe] = task
            first.setdefault(model, task)

    def take(self, cell: PlannedCell, state: RunState) -> Ready:
        """Waits until a worker made the files. Where none could, this host makes them, or says why they cannot be made."""
        state.setting.progress("cluster", 0.0)
        try:
            self._made.pop(cell.key).result()
        except Exception as error:  # noqa: BLE001 - whatever a worker met, making it here decides
            if not isinstance(error, PressbenchError) and not self._gone:
                self._gone = True
                self._note(f"cluster: {type(error).__name__}: {error}; what it does not make is made here")
        return make_ready(cell, state)


@contextmanager
def open_cluster(where: str, plan: Plan, cache: Path) -> Iterator[Any]:
    """A client of the scheduler at `where`, as tcp://host:8786, or of N processes of this machine, as local:4.

    Raises `Unavailable` without Dask or a scheduler, and `InvalidInput` for workers of another version, that do not see
    the cache, or that run where the cells are measured.
    """
    try:
        distributed: Any = import_module("distributed")  # its calls have no types
    except ImportError as error:
        raise Unavailable(f"--cluster: distributed cannot be imported ({error}): {REMEDY}") from error
    if where.startswith(LOCAL):
        check_place(plan, {f"{where} of this machine": socket.gethostname()})
        with distributed.LocalCluster(
            n_workers=read_count(where), threads_per_worker=1, processes=True, dashboard_address=None
        ) as own, distributed.Client(own, set_as_default=False) as client:  # fmt: skip
            yield client
        return
    try:
        client = distributed.Client(where, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"--cluster {where}: no scheduler answers: {error}; start one with `dask scheduler`"
        ) from error
    with client:
        check_workers(client, where, plan, cache)
        yield client


def read_count(where: str) -> int:
    """The N of local:N. Raises `InvalidInput`."""
    count = where.removeprefix(LOCAL)
    if not count.isdecimal() or not 1 <= int(count) <= (os.cpu_count() or 1) * 4:
        raise InvalidInput(f"--cluster {where}: a number of processes from 1 to 4 for each core, as local:4")
    return int(count)


def check_workers(client: Any, where: str, plan: Plan, cache: Path) -> None:
    """Raises as `open_cluster`."""
    probe = cache / f".cluster-{uuid.uuid4().hex}"
    probe.touch()
    try:
        found: Mapping[str, Mapping[str, Any]] = client.run(describe_worker, str(probe.resolve()))
    finally:
        probe.unlink()
    if not found:
        raise Unavailable(f"--cluster {where}: the scheduler has no workers; start one with `dask worker {where}`")
    ours = versions()
    for worker, facts in found.items():
        differs = [f"{name} {has}, here {ours[name]}" for name, has in facts["versions"].items() if has != ours[name]]
        if differs:
            raise InvalidInput(f"--cluster {where}: worker {worker} has {'; '.join(differs)}: install the same")
        if not facts["sees"]:
            raise InvalidInput(
                f"--cluster {where}: worker {worker} does not see the cache {cache.resolve()}: share the folder under one "
                "path, and name it in PRESSBENCH_CACHE"
            )
    check_place(plan, {worker: facts["host"] for worker, facts in found.items()})


def check_place(plan: Plan, workers: Mapping[str, str]) -> None:
    """Raises `InvalidInput` for a worker on the machine whose times are measured. `workers`: name -> host name."""
    measured = any(load_backend(cell.backend.name).session is not None for cell in plan.cells)
    device = plan.target.host.rpartition("@")[2] if is_elsewhere(plan.target) else socket.gethostname()
    for worker, host in workers.items():
        if measured and host == device:
            raise InvalidInput(
                f"--cluster: worker {worker} runs on {host}, which target {plan.target.name} measures: it would disturb "
                "every time. Start workers elsewhere, or leave --cluster out"
            )


def describe_worker(probe: str) -> dict[str, Any]:
    """Runs on a worker: its versions and host, and whether it sees a file of the shared cache."""
    return {"versions": versions(), "host": socket.gethostname(), "sees": Path(probe).exists()}


def versions() -> dict[str, str]:
    """What decides the bytes of a network, besides the runtimes of its backends."""
    return {
        "pressbench": bench.__version__,
        "torch": version("torch"),
        "Python": ".".join(map(str, sys.version_info[:2])),
    }


def fill_cache(asked: str, key: str, cache: str, folder: str, _before: object) -> None:
    """Runs on a worker: makes the files of one cell. `folder`: where the user's own modules lie. Raises what making raises."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    plan = _plan(asked, cache)
    cells = {cell.key: cell for cell in plan.cells}
    if key not in cells:
        raise InvalidInput("this worker plans other cells than the host: its data or code differs")
    with tempfile.TemporaryDirectory(prefix="pressbench-cluster-") as work:
        setting = Setting(
            target=plan.target,
            cache=Path(cache),
            folder=Path(work),
            progress=_quiet,
            measure=plan.suite.measure,
            seed=plan.suite.seed,
            data=cells[key].data,
            data_asked=plan.request.data is not None,
            calibrate=plan.calibrate,
        )
        cell = cells[key]
        make_artifact(cell.model, cell.recipe, cell.backend, cell.conditions, setting)


@lru_cache(maxsize=1)
def _plan(asked: str, cache: str) -> Plan:
    return make_plan(TypeAdapter(Request).validate_python(json.loads(asked)), Path(cache))


def _quiet(_what: str, _done: float) -> None:
    return None
