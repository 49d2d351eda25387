"""`pressbench run` of the default suite and its report: first with nothing cached, training included, then again; and
how long a run takes whose board measures while the host compresses."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.line.cell import RunState
from bench.line.findings import assemble
from bench.line.plan import Plan, PlannedCell, Request
from bench.line.run import Surroundings, plan_run, run
from bench.line.stages import Stages
from bench.line.trust import Verdict
from bench.reach.base import Ended, Reach
from bench.records import Record
from bench.store import Store
from bench.types import Status

FIRST_MIN, AGAIN_MIN = 8, 4
TARGET = 'name = "board"\nreach = "{reach}"\n{host}[[backend]]\nname = "ort"\n'


def main() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for title, limit in (("nothing cached", FIRST_MIN), ("again", AGAIN_MIN)):
            yield f"default suite, {title}: {wall_s(Path(folder)) / 60:.1f} min (asked: under {limit} min on 2 quiet cores)"
        yield from with_board(Path(folder), Request(target="", suite="default"))


def wall_s(folder: Path) -> float:
    """Seconds of what `make bench` does once it is set up."""
    pressbench = str(Path(sys.executable).with_name("pressbench"))
    environment = {**os.environ, "PRESSBENCH_CACHE": str(folder / "cache")}
    results = ["--results", str(folder / "results")]
    start = time.perf_counter()
    for command in (["run", "--target", "cpu", "--suite", "default"], ["report"]):
        subprocess.run([pressbench, *command, *results], check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


class Sleeping(Reach):
    """A board that takes a fixed time for each cell and no CPU: the double on loopback would share this machine's."""

    def describe(self) -> str:
        return "a board that sleeps"

    def run(self, job: object, workdir: Path, limit_s: float) -> Ended:
        raise NotImplementedError


def with_board(folder: Path, request: Request) -> Iterator[str]:
    """One after another with nothing cached, to learn the host's time; then a board that takes as long beside it."""
    (folder / "host.toml").write_text(TARGET.format(reach="local", host=""))
    (folder / "board.toml").write_text(TARGET.format(reach="ssh", host='host = "board"\n'))
    cells = len(plan_of(request, folder / "host.toml").cells)
    _, first_s = seconds(plan_of(request, folder / "host.toml"), folder / "one", 0.0)
    both_s, host_s = seconds(plan_of(request, folder / "board.toml"), folder / "two", first_s / cells)
    yield (
        f"{cells} cells: the host worked {host_s:.1f} s, a board that sleeps {first_s:.1f} s, the run took {both_s:.1f} s, "
        f"{both_s / max(host_s, first_s):.2f} of the longer (asked: at most 1.2; one after another: 2)"
    )


def plan_of(request: Request, target: Path) -> Plan:
    return plan_run(replace(request, target=str(target)))


def seconds(plan: Plan, folder: Path, board_s: float) -> tuple[float, float]:
    """Of a run of the plan with an empty cache, where the board takes `board_s` for each cell; and of the host's work."""
    folder.mkdir()
    spent: list[float] = []

    def run_cell(cell: PlannedCell, state: RunState) -> Record:
        state.make_ready(cell, state)
        time.sleep(board_s)
        verdict = Verdict(status=Status.OK, reasons=())
        return assemble(cell, plan, None, verdict, run_id=state.run_id, started_at="", cache=folder / "cache")

    with Store.open(folder / "results.db") as store:
        around = Surroundings(
            store=store,
            cache=folder / "cache",
            folder=folder,
            progress=lambda *_: None,
            on_cell=lambda *_: None,
            run_cell=run_cell,
            open_reach=lambda *_: Sleeping(),
            stages=clocked(spent),
        )
        start = time.perf_counter()
        run(plan, around)
    return time.perf_counter() - start, sum(spent)


def clocked(spent: list[float]) -> Stages:
    """The host's stages, which add the seconds that they take."""

    def clock(stage: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return stage(*given, **named)
            finally:
                spent.append(time.perf_counter() - start)

        return timed

    stages = Stages()
    names = ("load_backend", "compress", "compile", "make_evaluation", "count", "predict_reference")
    return replace(stages, **{name: clock(getattr(stages, name)) for name in names})
