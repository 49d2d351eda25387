"""Makes the next cells ready while a board measures one: a thread of this process, a few cells ahead."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Semaphore, Thread
from types import TracebackType
from typing import final

from typing_extensions import Self

from bench.line.cell import Ready, RunState
from bench.line.plan import PlannedCell
from bench.types import Progress

MOST_AHEAD = 8
"""How many cells are made ready before they are asked for: with few, a board waits for each long training of a suite."""
IDLE_S = 0.1
"""After so long, a thread that only waited has ended."""
STOP_S = 10.0
"""How long the end of a run waits for the thread: a converter's process may still run."""


@final
class Ahead:
    """The cells in order, each made ready once. Law: what `take` gives or raises is what the state's `make_ready` does.

    All work on networks is done by this one thread, so its random numbers are drawn in the same order as without it.
    """

    def __init__(self, cells: Sequence[PlannedCell], state: RunState) -> None:
        self._state = replace(state, setting=replace(state.setting, progress=mark(state.setting.progress)))
        self._made: dict[str, Future[Ready]] = {cell.key: Future() for cell in cells}
        self._todo = deque((cell, self._made[cell.key]) for cell in cells)
        self._free, self._ended = Semaphore(MOST_AHEAD), False
        self._thread = Thread(target=self._work, name="pressbench-ahead", daemon=True)

    def take(self, cell: PlannedCell, _state: RunState) -> Ready:
        """Waits for a cell. Raises what making it ready raised."""
        try:
            return self._made.pop(cell.key).result()
        finally:
            self._free.release()

    def __enter__(self) -> Self:
        """Begins with the first cell."""
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Ends the thread as Ctrl-C would: what it was making is removed."""
        self._ended = True
        self._free.release()
        self._thread.join(IDLE_S)
        interrupt(self._thread)
        self._thread.join(STOP_S)

    def _work(self) -> None:
        try:
            while self._todo:
                self._free.acquire()
                if self._ended:
                    return
                fill(*self._todo.popleft(), self._state)
        except KeyboardInterrupt:  # of `interrupt`
            return


def fill(cell: PlannedCell, result: Future[Ready], state: RunState) -> None:
    """Makes a cell ready; its error is raised where the result is taken."""
    try:
        result.set_result(state.make_ready(cell, state))
    except Exception as error:  # noqa: BLE001 - it is raised where the cell is taken
        result.set_exception(error)


def interrupt(thread: Thread) -> None:
    """Raises `KeyboardInterrupt` in a thread, at its next line of Python; nothing if it has ended."""
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))


def mark(progress: Progress) -> Progress:
    """The same progress, of a cell that is still to be measured."""

    def ahead(what: str, fraction: float) -> None:
        progress(f"next: {what}", fraction)

    return ahead
