"""What preparing costs the scheduler of a cluster: a real one on loopback, with real workers that only sleep.

The tasks are those that `bench.line.cluster` gives it: each cell one, with what it waits for and its priority. Workers are
as many as end 21 tasks a second, each with a connection of its own; they share a process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil

import bench.line.cluster
from bench.line.fleet.shares import make_shares, order_ahead
from bench.line.plan import Plan, find_boards
from tools.fleet_sim.durations import Lasted
from tools.fleet_sim.lab import make_sim_plan

distributed: Any = import_module("distributed")  # its calls have no types
RATE = 21
"""Cells a second that 1,000 boards end, all of which work."""
WORK_S = 60.0
"""How long the scheduler is watched at that rate."""
SETTLE_S = 20.0
"""After so long a scheduler has gone through what it was given, and each worker has a task."""
START_S = 300.0
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "2s",
}
"""What several hundred workers of one process leave out; the scheduler leaves out nothing."""
_prepare_s = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """Processor seconds of the scheduler: `given_s` until it had settled with its `tasks`, which it was given in `giving_s`;
    then `busy_s` of `working_s`, in which `ended` of them ended. `host_s`: of the process that gave them, in all."""

    tasks: int
    workers: int
    given_s: float
    giving_s: float
    ended: int
    busy_s: float
    working_s: float
    host_s: float


def schedule(table: Sequence[Lasted], *, boards: int, tasks: int, folder: Path) -> Scheduled:
    """Gives a scheduler the tasks of a run, and watches it while workers make them."""
    plan, _ = make_sim_plan(table, boards, tasks, folder)
    prepare_s = sum(one.preparing_s for one in table) / len(table)
    workers = round(RATE * prepare_s)
    with _cluster(folder, workers, prepare_s) as (address, scheduler), distributed.Client(address) as client:
        host, begun, used = psutil.Process(), time.monotonic(), _used(scheduler)
        host_begun = _used(host)
        made = _give(client, plan, boards, folder)
        _wait(lambda: client.run_on_scheduler(_count) >= tasks)
        giving_s = time.monotonic() - begun
        time.sleep(SETTLE_S)
        given_s = _used(scheduler) - used
        begun, used, before = time.monotonic(), _used(scheduler), sum(one.done() for one in made)
        time.sleep(WORK_S)
        return Scheduled(
            tasks=tasks,
            workers=workers,
            given_s=given_s,
            giving_s=giving_s,
            ended=sum(one.done() for one in made) - before,
            busy_s=_used(scheduler) - used,
            working_s=time.monotonic() - begun,
            host_s=_used(host) - host_begun,
        )


def _give(client: Any, plan: Plan, boards: int, folder: Path) -> list[Any]:
    """The product's own tasks, except for their work."""
    state: Any = SimpleNamespace(plan=plan, setting=SimpleNamespace(cache=folder / "cache"))
    cells = order_ahead(make_shares(plan, [board.name for board in find_boards(plan.request)]), boards)
    vars(bench.line.cluster)["fill_cache"] = sleep
    cluster = bench.line.cluster.Cluster(client, cells, state, print)
    cluster.listen(lambda: None)
    return list(cluster._made.values())


def sleep(*_given: object) -> None:
    """What a task does here."""
    time.sleep(_prepare_s)


def work(address: str, workers: int, prepare_s: float, folder: str) -> None:
    """Runs in a process of its own: so many workers of one thread, which watch themselves less than they do by default."""
    globals()["_prepare_s"] = prepare_s
    logging.getLogger("distributed").setLevel(logging.ERROR)
    dask.config.set(QUIET)

    async def run() -> None:
        made = [
            distributed.Worker(address, nthreads=1, memory_limit=0, dashboard=False, local_directory=folder)
            for _ in range(workers)
        ]
        await asyncio.gather(*made)
        await asyncio.gather(*(one.finished() for one in made))

    asyncio.run(run())


@contextmanager
def _cluster(folder: Path, workers: int, prepare_s: float) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler in a process of its own, with its workers; its address and process."""
    file = folder / "scheduler.json"
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with (folder / "scheduler.log").open("w") as log:
        started = subprocess.Popen([sys.executable, *command, "--scheduler-file", file], stdout=log, stderr=log)
    workshop = None
    try:
        _wait(file.exists)
        address = json.loads(file.read_text())["address"]
        given = (address, workers, prepare_s, str(folder / "workers"))
        workshop = multiprocessing.get_context("spawn").Process(target=work, args=given, daemon=True)
        workshop.start()
        with distributed.Client(address) as client:
            client.wait_for_workers(workers, timeout=START_S)
        yield address, psutil.Process(started.pid)
    finally:
        for process in (workshop, started):
            if process is not None:
                process.kill()
        started.wait()


def _wait(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"the scheduler did not come that far in {START_S:g} s")
        time.sleep(0.2)


def _count(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
