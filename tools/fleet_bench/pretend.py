"""The same bench with boards that only pretend: what leases, shares, store and `--resume` do, at full size in a minute or two.

A cell is a record that is there after `--wait` seconds. The coordinator is a process of its own, forked from one that has
imported everything, so that it may be killed often. Boards, database and coordinator are killed; there is nothing to compile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.config.target import Target
from bench.errors import BoardLost, Unavailable
from bench.line.cell import BOARD_LOST, RunState
from bench.line.fleet.run import Arranged, run_fleet
from bench.line.plan import PlannedCell, Request
from bench.line.run import Surroundings, find_interrupted, plan_run
from bench.line.stages import Stages
from bench.reach.local import Local
from bench.records import Record
from bench.store import Leases, Store
from bench.types import Status
from tests.fake_records import record
from tools.fleet_bench.coordinator import Log, name_cell
from tools.fleet_bench.runs import Asked

LOOK_S = 0.05
RECHECK_S, POLL_S = 0.5, 0.3


@dataclass(kw_only=True)
class Pretend:
    """Boards by name; one is off while a file of its name is there. Stands in for `tools.fleet_bench.lab.Lab`."""

    folder: Path
    server: Any
    wait_s: float
    doubles: dict[str, None]
    workers: list[Any] = field(default_factory=list)

    def kill_board(self, name: str) -> None:
        (self.folder / name).touch()

    def start_board(self, name: str) -> None:
        (self.folder / name).unlink()


@dataclass(kw_only=True)
class Child:
    """A coordinator as `subprocess.Popen` shows one."""

    process: BaseProcess

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float) -> None:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("coordinator", timeout)

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode


@contextmanager
def set_up(folder: Path, options: argparse.Namespace) -> Iterator[Pretend]:
    """A PostgreSQL server and a fleet file."""
    postgres = import_module("tests.postgres")
    if reason := postgres.missing():
        raise Unavailable(reason)
    folder.mkdir()
    names = [f"board-{number}" for number in range(1, options.boards + 1)]
    boards = [f'[boards.{name}]\nsku = "double"\ntarget = "jetson"\nhost = "{name}.invalid"\n' for name in names]
    (folder / "fleet.toml").write_text("".join(boards))
    with postgres.running() as server:
        yield Pretend(folder=folder, server=server, wait_s=options.wait, doubles=dict.fromkeys(names))


def start(lab: Pretend, asked: Asked, *, resume: bool) -> Child:
    """A coordinator in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    (lab.folder / "suite.toml").write_text(asked.suite)
    given = (str(lab.folder), lab.server.url, lab.wait_s, resume)
    process = context.Process(target=coordinate, args=given, daemon=True)
    process.start()
    return Child(process=process)


def coordinate(where: str, url: str, wait_s: float, resume: bool) -> None:
    """What `pressbench run --fleet` does, with boards that pretend."""
    folder = Path(where)
    log = Log(str(folder / "events"))
    log.write("begun")
    fleet = {"fleet": str(folder / "fleet.toml"), "sku": "double", "backends": ("ort-cpu",)}
    request = Request(target="jetson", suite=str(folder / "suite.toml"), **fleet)  # type: ignore[arg-type]
    with Store.open(url, say=lambda text: log.write("said", text=text)) as store:
        request, earlier = find_interrupted(request, store) if resume else (request, None)
        around = Surroundings(
            store=store,
            cache=folder / "cache",
            folder=folder,
            progress=lambda _what, _share: None,
            on_cell=lambda *_: None,
            run_cell=lambda cell, state: pretend(cell, state, log),
            open_reach=lambda _target, _device: Local(),
            stages=Stages(run=lambda bench, _artifact: be_busy(folder, str(bench), wait_s)),  # type: ignore[arg-type, return-value]
        )
        arranged = Arranged(
            find_trouble=lambda target, _reach: is_off(folder, target),
            say=lambda text: log.write("said", text=text),
            leases=Leases(store=store),
            poll_s=POLL_S,
            recheck_s=RECHECK_S,
        )
        run_fleet(plan_run(request, folder / "cache"), around, arranged, earlier=earlier)


def is_off(folder: Path, target: Target) -> str:
    return "it is off" if (folder / target.host.partition(".")[0]).exists() else ""


def be_busy(folder: Path, board: str, wait_s: float) -> None:
    """Raises `BoardLost` for a board that is unplugged meanwhile."""
    end = time.monotonic() + wait_s
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_S, left))
        if (folder / board).exists():
            raise BoardLost(f"{board} was lost")


def pretend(cell: PlannedCell, state: RunState, log: Log) -> Record:
    """The record of a cell; a board that is lost ends it, as in `bench.line.cell.run_cell`."""
    named, began = name_cell(cell), time.time()
    log.write("made", began=0.0, ready=0.0, **named)  # there is nothing to make
    known = {"model": cell.model.name, "recipe": cell.recipe.name, "backend": cell.backend.title}
    found = record(state.run_id, key=cell.key, baseline_key=cell.baseline_key, **known)
    found = replace(found, conditions=cell.conditions, launches=())
    try:
        state.setting.stages.run(named["board"], None)  # type: ignore[arg-type]
    except BoardLost as error:
        return replace(found, status=Status.FAILED, reasons=(str(error),), facts={BOARD_LOST: True})
    finally:
        log.write("busy", began=began, **named)
        log.write("cell", began=began, **named)
    return found
