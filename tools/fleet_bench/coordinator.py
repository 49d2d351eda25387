"""`pressbench` as a user runs it, that writes down when each cell was made, measured and stored.

`python -m tools.fleet_bench.coordinator LOG PATIENCE_S RECHECK_S run --fleet ...`. A board that is gone is given up after
PATIENCE_S instead of a minute, and checked again after RECHECK_S instead of half a minute: a bench has no hours.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from bench.cli import main
from bench.commands import run as command
from bench.commands.fleet import measure
from bench.line.ahead import fill
from bench.line.cell import RunState, run_cell
from bench.line.fleet import pantry
from bench.line.fleet.run import Arranged
from bench.line.plan import PlannedCell
from bench.line.run import Surroundings
from bench.line.stages import Stages
from bench.reach.ssh import link
from bench.records import Record

Found = TypeVar("Found")


class Log:
    """One line of JSON an event, whole or not at all: this process is killed at any moment."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self.now = threading.local()

    def write(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), "at": time.time(), **values})
        os.write(self._file, f"{line}\n".encode())

    def around(
        self, kind: str, work: Callable[..., Found], name: Callable[..., dict[str, Any]]
    ) -> Callable[..., Found]:
        """The same work, with a line at its end."""

        def logged(*given: Any, **named: Any) -> Found:
            began = time.time()
            try:
                return work(*given, **named)
            finally:
                self.write(kind, began=began, **name(*given))

        return logged


def name_cell(cell: PlannedCell) -> dict[str, Any]:
    return {"model": cell.model.name, "recipe": cell.recipe.name, "board": cell.conditions.device}


def instrument(log: Log) -> None:
    """Puts the log around what makes a cell ready, what a board does for it, and its record."""

    def measured(cell: PlannedCell, state: RunState) -> Record:
        log.now.cell = name_cell(cell)
        return run_cell(cell, state)

    def on_board(*_given: Any) -> dict[str, Any]:
        found: dict[str, Any] = log.now.cell
        return found

    stages = Stages()
    stages = Stages(run=log.around("busy", stages.run, on_board), compare=log.around("busy", stages.compare, on_board))
    watched = log.around("cell", measured, lambda cell, _state: name_cell(cell))
    replace_in(command, "Surroundings", partial(Surroundings, run_cell=watched, stages=stages))
    replace_in(pantry, "fill", log.around("made", fill, lambda cell, *_: name_cell(cell)))
    checked = log.around("checked", measure.find_trouble, lambda target, *_: {"board": target.host})
    replace_in(measure, "find_trouble", checked)


def replace_in(module: ModuleType, name: str, value: object) -> None:
    """Raises `AttributeError` where the code has changed."""
    getattr(module, name)
    setattr(module, name, value)


def begin(arguments: Sequence[str]) -> None:
    path, patience_s, recheck_s, *given = arguments
    log = Log(path)
    log.write("begun")
    link.PATIENCE_S, link.GONE_S = float(patience_s), min(1.0, float(patience_s))
    replace_in(measure, "Arranged", partial(Arranged, recheck_s=float(recheck_s)))
    instrument(log)
    try:
        main(given)
    finally:
        log.write("ended")


if __name__ == "__main__":
    begin(sys.argv[1:])
