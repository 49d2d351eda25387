"""The cells of a run as tasks of a cluster, and what becomes of those that no worker makes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from bench.compress.interface import Quantizer
from bench.line.cell import Ready, RunState, make_ready
from bench.line.cluster.fill import Called, fill_cache, find_planned
from bench.line.cluster.waiting import Waiting
from bench.line.plan import Place, PlannedCell, place_of
from bench.shared_cache import find_url


def call_planned(cell: PlannedCell) -> Called:
    """How a worker finds a cell that its plan has too."""
    return find_planned, cell.key


@final
class Cluster:
    """The cells of a run as tasks. Law: what `take` gives or raises is what `make_ready` does.

    `cells`: to be made at once. Others are when they are taken. `call`: how a worker finds a cell.
    A cluster is waited for as `Waiting` does.
    """

    def __init__(
        self,
        client: Any,
        cells: Sequence[PlannedCell],
        state: RunState,
        note: Callable[[str], None],
        call: Callable[[PlannedCell], Called] = call_planned,
    ) -> None:
        self._client, self._note, self._noted, self._call = client, note, False, call
        self._waiting = Waiting(client)
        self._asked = json.dumps(asdict(state.plan.request))
        self._cache = find_url(state.setting.cache) or str(state.setting.cache.resolve())
        self._made: dict[Place, Any] = {}
        self._first: dict[tuple[str, ...], Any] = {}  # what is made on the way to a file -> the task that makes it
        self._given: set[Place] = set()
        self._ask(cells)

    def _ask(self, cells: Sequence[PlannedCell]) -> None:
        for cell in cells:
            if place_of(cell) in self._given:
                continue  # of another board: its files are the same
            made = list_made(cell)
            before = next((self._first[one] for one in reversed(made) if one in self._first), None)
            name = f"{cell.key}-{uuid.uuid4()}"
            # by itself Dask continues with what follows a task that it has just ended, before what a board waits for
            given = (self._asked, self._call(cell), self._cache, str(Path.cwd()), before)
            task = self._client.submit(fill_cache, *given, key=name, priority=-len(self._given))
            self._given.add(place_of(cell))
            self._made[place_of(cell)] = task
            for one in made:
                self._first.setdefault(one, task)

    def listen(self, wake: Callable[[], None]) -> None:
        """Has a function called, from another thread, whenever a task ends."""
        for task in self._made.values():
            task.add_done_callback(lambda _task: wake())

    def is_over(self, cell: PlannedCell) -> bool:
        """Whether nothing is to be waited for: its task has ended, there is none, or no worker would do it."""
        task = self._made.get(place_of(cell))
        return task is None or self._waiting.is_over(task)

    def take(self, cell: PlannedCell, state: RunState) -> Ready:
        """Waits until a worker made the files. Where none could, this host makes them, or says why they cannot be made."""
        state.setting.progress("cluster", 0.0)
        self._ask([cell])
        task = self._made.get(place_of(cell))
        why = "" if task is None else self._waiting.wait(task) or task.result()
        self._made.pop(place_of(cell), None)
        ready = make_ready(cell, state)
        if why:
            self._say(why)
        return ready

    def _say(self, why: str) -> None:
        if not self._noted:
            self._note(f"cluster: {why}; what it does not make is made here")
        self._noted = True


def list_made(cell: PlannedCell) -> list[tuple[str, ...]]:
    """What other cells may need too, in the order in which it is made: the model, each training, the compressed network."""
    steps = [step for step in cell.recipe.steps if not isinstance(step, Quantizer)]
    texts = [repr(step) for step in steps]
    kept = [n for n, step in enumerate(steps, 1) if n == len(steps) or getattr(step, "trains", False)]
    return [(cell.model.name, *texts[:n]) for n in (0, *kept)]
