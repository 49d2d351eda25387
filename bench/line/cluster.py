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
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import psutil
from pydantic import TypeAdapter

import bench
from bench.errors import InvalidInput, Unavailable
from bench.line.cell import Ready, RunState, make_ready
from bench.line.plan import Place, Plan, PlannedCell, Request, find_boards, make_plan, place_of
from bench.line.prepare import Setting, make_artifact
from bench.line.stages import load_backend
from bench.reach.open import is_elsewhere
from bench.reach.ssh.address import VARIABLE, parse_address

LOCAL = "local:"
INTERNET = (socket.AF_INET, socket.AF_INET6)
CONNECT_S = 10.0
LOOK_S = 2.0
"""How often the scheduler is asked whether it has workers, while a cell waits."""
WITHOUT_WORKERS_S = 20.0
"""After so long without any worker this host makes what is waited for. Workers that come back make the rest."""
REMEDY = "pip install 'pressbench[cluster]'"


@final
class Cluster:
    """The cells of a run as tasks. Law: what `take` gives or raises is what `make_ready` does.

    A cluster that has no workers for `WITHOUT_WORKERS_S` is not waited for.
    """

    def __init__(self, client: Any, cells: Sequence[PlannedCell], state: RunState, note: Callable[[str], None]) -> None:
        self._client, self._note, self._noted = client, note, False
        self._looked_at = self._had_workers_at = time.monotonic()
        asked = json.dumps(asdict(state.plan.request))
        cache = str(state.setting.cache.resolve())
        self._made: dict[Place, Any] = {}
        first: dict[tuple[str, ...], Any] = {}
        for number, cell in enumerate(cells):
            if place_of(cell) in self._made:
                continue  # of another board: its files are the same
            model, recipe = (cell.model.name,), (cell.model.name, cell.recipe.name)
            before = first.get(recipe) or first.get(model)  # what makes the training that this cell needs too
            name = f"{cell.key}-{uuid.uuid4()}"
            # by itself Dask continues with what follows a task that it has just ended, before what a board waits for
            given = (asked, cell.key, cache, str(Path.cwd()), before)
            task = client.submit(fill_cache, *given, key=name, priority=-number)
            self._made[place_of(cell)] = first[recipe] = task
            first.setdefault(model, task)

    def listen(self, wake: Callable[[], None]) -> None:
        """Has a function called, from another thread, whenever a task ends."""
        for task in self._made.values():
            task.add_done_callback(lambda _task: wake())

    def is_over(self, cell: PlannedCell) -> bool:
        """Whether nothing is to be waited for: its task has ended, there is none, or no worker would do it."""
        task = self._made.get(place_of(cell))
        return task is None or task.done() or self._lacks_workers()

    def take(self, cell: PlannedCell, state: RunState) -> Ready:
        """Waits until a worker made the files. Where none could, this host makes them, or says why they cannot be made."""
        state.setting.progress("cluster", 0.0)
        while not self.is_over(cell):
            with suppress(TimeoutError):
                self._made[place_of(cell)].result(timeout=LOOK_S)
        task = self._made.pop(place_of(cell), None)
        if task is None:
            return make_ready(cell, state)
        if not task.done():
            self._say(f"no worker for {WITHOUT_WORKERS_S:g} s")
            return make_ready(cell, state)
        try:
            task.result()
        except Exception as error:  # noqa: BLE001 - whatever a worker met, making it here decides
            ready = make_ready(cell, state)
            self._say(f"{type(error).__name__}: {error}")
            return ready
        return make_ready(cell, state)

    def _say(self, why: str) -> None:
        if not self._noted:
            self._note(f"cluster: {why}; what it does not make is made here")
        self._noted = True

    def _lacks_workers(self) -> bool:
        """Asks the scheduler, now and then. One that does not answer has none."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._looked_at = now
            with suppress(Exception):  # a lost scheduler: of whatever kind its error is
                if self._client.scheduler_info()["workers"]:
                    self._had_workers_at = time.monotonic()
        return self._looked_at - self._had_workers_at > WITHOUT_WORKERS_S


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
        check_place(plan, {f"{where} of this machine": name_this_host()})
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


def check_place(plan: Plan, workers: Mapping[str, Collection[str]]) -> None:
    """Raises `InvalidInput` for a worker on a machine whose times are measured. `workers`: name -> what its host is called."""
    if not any(load_backend(cell.backend.name).session is not None for cell in plan.cells):
        return
    for device in find_devices(plan):
        called = name_host(device)
        for worker, names in workers.items():
            if called & set(names):
                raise InvalidInput(
                    f"--cluster: worker {worker} runs on {device}, which target {plan.target.name} measures: it would "
                    "disturb every time. Start workers elsewhere, or leave --cluster out"
                )


def find_devices(plan: Plan) -> list[str]:
    """The hosts that a plan measures. A phone has no host of its own: it hangs on the one that measures it."""
    if not is_elsewhere(plan.target):
        return [socket.gethostname()]
    targets = [board.target for board in find_boards(plan.request)] or [plan.target]
    asked = os.environ.get(VARIABLE, "").strip()
    return [parse_address(text, target.name).host for target in targets if (text := target.host or asked)]


def name_host(host: str) -> set[str]:
    """The names and addresses of a host, as `leave_out_loopback` has them."""
    found = {host.lower()}
    with suppress(OSError):
        found |= {str(known[4][0]) for known in socket.getaddrinfo(host, None)}
    return leave_out_loopback(found)


def name_this_host() -> list[str]:
    """What this machine is called, and its addresses."""
    cards = psutil.net_if_addrs().values()
    addresses = {card.address.partition("%")[0] for cards_of in cards for card in cards_of if card.family in INTERNET}
    return sorted(leave_out_loopback({socket.gethostname().lower(), socket.getfqdn().lower(), *addresses}))


def leave_out_loopback(names: Collection[str]) -> set[str]:
    """The other names and addresses: what answers on loopback may be a tunnel to any machine."""
    return {name for name in names if name != "localhost" and not name.startswith(("127.", "::1"))}


def describe_worker(probe: str) -> dict[str, Any]:
    """Runs on a worker: its versions and host, and whether it sees a file of the shared cache."""
    return {"versions": versions(), "host": name_this_host(), "sees": Path(probe).exists()}


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
