"""`pressbench run` of the default suite and its report: first with nothing cached, training included, then again; and
how long a run takes whose board measures while the host compresses."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
BOARD_S = 15.0
"""What a board takes for a cell of the suite: three launches and eight comparisons."""
TARGET = 'name = "board"\nreach = "ssh"\nhost = "board"\n[[backend]]\nname = "ort"\n'


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


def with_board(folder: Path, request: Request, board_s: float = BOARD_S) -> Iterator[str]:
    """One run with nothing cached, whose board takes `board_s` for each cell. Host and board are clocked in this run."""
    (folder / "board.toml").write_text(TARGET)
    plan = plan_run(replace(request, target=str(folder / "board.toml")))
    host, board = Busy(), Busy()
    whole_s = run_clocked(plan, folder / "with-board", host, board, board_s)
    both_s = host.seconds() + board.seconds()
    longer_s = max(host.seconds(), board.seconds())
    yield (
        f"{len(plan.cells)} cells in one run: the host worked {host.seconds():.1f} s, a board that sleeps "
        f"{board.seconds():.1f} s, the whole took {whole_s:.1f} s: {whole_s / longer_s:.2f} of the longer "
        f"(asked: at most 1.2; one after another: {both_s / longer_s:.2f})"
    )


class Busy:
    """When something worked."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    @contextmanager
    def working(self) -> Iterator[None]:
        """A span of work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append((start, time.perf_counter()))

    def seconds(self) -> float:
        """Of all spans, what two share counted once."""
        found, end = 0.0, 0.0
        for start, stop in sorted(self._spans):
            found += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return found


def run_clocked(plan: Plan, folder: Path, host: Busy, board: Busy, board_s: float) -> float:
    """Seconds of a run of the plan with an empty cache."""
    folder.mkdir()

    def run_cell(cell: PlannedCell, state: RunState) -> Record:
        state.make_ready(cell, state)
        with board.working():
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
            stages=clocked(host),
        )
        start = time.perf_counter()
        run(plan, around)
    return time.perf_counter() - start


def clocked(host: Busy) -> Stages:
    """The host's stages, and when they worked."""

    def clock(stage: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            with host.working():
                return stage(*given, **named)

        return timed

    stages = Stages()
    names = ("load_backend", "compress", "compile", "make_evaluation", "count", "predict_reference")
    return replace(stages, **{name: clock(getattr(stages, name)) for name in names})
