"""Makes cells ready while boards measure others: one thread for all boards, what a board waits for before all else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from itertools import islice
from threading import Condition, Thread
from types import TracebackType
from typing import final

from typing_extensions import Self

from bench.line.ahead import IDLE_S, MOST_AHEAD, STOP_S, fill, interrupt, mark
from bench.line.cell import Ready, RunState
from bench.line.cluster import Cluster
from bench.line.fleet.shares import LOOK_S
from bench.line.plan import Place, PlannedCell, place_of
from bench.reach.base import Reach

LOOK_AHEAD = 64
"""How many cells are looked through for one that is due: a cluster makes them about in order."""


@dataclass(slots=True, kw_only=True, eq=False)
class Made:
    """A cell that is made, or was. `uses`: how many boards are still to take it."""

    cell: PlannedCell
    result: Future[Ready]
    uses: int


@final
class Pantry:
    """The cells of a run, made ready in order. Law: what `take` gives or raises is what `make_ready` does.

    All work on networks is done by this one thread, so its random numbers are drawn by one cell after another. With a
    cluster, it leaves a cell to the workers as long as they make it: it would only keep the others waiting.
    """

    def __init__(self, cells: Sequence[PlannedCell], state: RunState, *, uses: int, ahead: int = MOST_AHEAD) -> None:
        self._state = replace(state, setting=replace(state.setting, progress=mark(state.setting.progress)))
        self._uses, self._ahead = uses, ahead
        self._is_due: Callable[[PlannedCell], bool] = lambda _cell: True
        self._made, self._begun = dict[Place, Made](), set[Place]()
        self._todo, self._urgent = deque(cells), list[Made]()
        self._ready = 0
        self._changed, self._ended = Condition(), False
        self._thread = Thread(target=self._work, name="pressbench-pantry", daemon=True)

    def take(self, cell: PlannedCell) -> Ready:
        """Waits for a cell. Raises what making it ready raised."""
        place = place_of(cell)
        with self._changed:
            made = self._made.get(place) or self._add(cell, place)
            if not made.result.done():
                self._urgent.append(made)
                self._changed.notify_all()
        while not made.result.done() and not wait([made.result], LOOK_S).done:
            continue
        with self._changed:
            made.uses -= 1
            if made.uses <= 0 and self._made.get(place) is made:
                del self._made[place]
                self._ready -= 1
                self._changed.notify_all()
        return made.result.result()

    def ask(self, cluster: Cluster) -> None:
        """Has the cells' files made by a cluster. Before the thread begins."""
        self._state.make_ready, self._is_due = cluster.take, cluster.is_over
        cluster.listen(self._wake)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        """Begins with the first cell."""
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Ends the thread as Ctrl-C would: what it was making is removed."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(IDLE_S)
        interrupt(self._thread)
        self._thread.join(STOP_S)

    def _add(self, cell: PlannedCell, place: Place) -> Made:
        self._begun.add(place)
        self._made[place] = Made(cell=cell, result=Future(), uses=self._uses)
        return self._made[place]

    def _next(self) -> Made | None:
        """What to make now; None for nothing yet."""
        self._urgent = [made for made in self._urgent if not made.result.done()]
        for made in self._urgent:
            if self._is_due(made.cell):
                self._urgent.remove(made)
                return made
        if self._ready >= self._ahead:
            return None
        while self._todo and place_of(self._todo[0]) in self._begun:
            self._todo.popleft()
        for cell in islice(self._todo, LOOK_AHEAD):
            if (place := place_of(cell)) not in self._begun and self._is_due(cell):
                return self._add(cell, place)
        return None

    def _work(self) -> None:
        try:
            while not self._ended:
                with self._changed:
                    made = self._next()
                    if made is None:
                        self._changed.wait(LOOK_S)
                if made is not None:
                    with self._changed:
                        self._ready += 1  # it counts from its beginning: this thread makes one at a time
                    fill(made.cell, made.result, self._state)
        except KeyboardInterrupt:  # of `interrupt`
            return


def bind(ready: Ready, cell: PlannedCell, reach: Reach) -> Ready:
    """A cell made ready for any board, to be measured on this one."""
    bench = ready.prepared.bench
    if bench is None:
        return ready
    bench = replace(bench, reach=reach, conditions=cell.conditions)
    return replace(ready, prepared=replace(ready.prepared, bench=bench))
