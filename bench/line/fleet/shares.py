"""The cells of a run as boards take them: a baseline with all that is compared with it, whole on one board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Condition
from typing import final

from bench.line.plan import Plan, PlannedCell

LOOK_S = 0.5
"""How often one who waits looks whether the run was stopped: a signal does not wake a thread."""


@dataclass(slots=True, kw_only=True, eq=False)
class Share:
    """A baseline and its recipes. `cells`: as each board that may take it would measure them, in one order, the baseline
    first. `left`: the places in that order of which no record is stored."""

    cells: Mapping[str, tuple[PlannedCell, ...]]
    left: set[int]

    def on(self, board: str) -> list[tuple[int, PlannedCell]]:
        """What is left, as this board measures it: the baseline again where another board or an earlier try had it."""
        return [(place, self.cells[board][place]) for place in sorted({0, *self.left})]


def make_shares(plan: Plan, *, each: bool, done: frozenset[str]) -> list[Share]:
    """The shares of a plan whose target's devices are its boards. `each`: every board gets all of them; else each of them
    goes to one board. `done`: keys of stored cells; of those of one place on several boards, one is enough."""
    groups: dict[tuple[object, ...], dict[str, list[PlannedCell]]] = {}
    for cell in plan.cells:
        board = cell.conditions.device
        alike = replace(cell.conditions, device="")
        name = (cell.model.name, cell.backend.title, alike, board if each else "")
        groups.setdefault(name, {}).setdefault(board, []).append(cell)
    found = []
    for group in groups.values():
        cells = {board: tuple(own) for board, own in group.items()}
        places = range(len(next(iter(cells.values()))))
        left = {place for place in places if not any(own[place].key in done for own in cells.values())}
        if left:
            found.append(Share(cells=cells, left=left))
    return found


@final
class Shares:
    """The shares that no board has finished. Threads of boards take them; law: a place is stored once, or stays left."""

    def __init__(self, shares: Iterable[Share]) -> None:
        self._waiting, self._out = list(shares), list[Share]()
        self._changed, self._stopped, self._gone = Condition(), False, set[str]()
        self.total = sum(len(share.left) for share in self._waiting)
        self.done = 0

    def wait_for(self, board: str) -> bool:
        """Waits for a share that this board may take. False: there will be none, or the run is stopped."""
        with self._changed:
            while not self._stopped and board not in self._gone:
                if any(board in share.cells for share in self._waiting):
                    return True
                if not any(board in share.cells for share in self._out):
                    return False
                self._changed.wait(LOOK_S)
        return False

    def pause(self, seconds: float) -> None:
        """Waits, or less long if something changes."""
        with self._changed:
            self._changed.wait(seconds)

    def take(self, board: str) -> Share | None:
        """The first share that this board may take; None where there is none now, or the run is stopped."""
        with self._changed:
            for share in self._waiting:
                if board in share.cells and not self._stopped and board not in self._gone:
                    self._waiting.remove(share)
                    self._out.append(share)
                    return share
        return None

    def finish(self, share: Share, place: int) -> None:
        """A record of this place is stored. A baseline that was measured again does not count twice."""
        with self._changed:
            self.done += place in share.left
            share.left.discard(place)

    def put(self, share: Share) -> None:
        """A board is done with a share; what is left of it waits for the next board, before all others."""
        with self._changed:
            self._out.remove(share)
            if share.left:
                self._waiting.insert(0, share)
            self._changed.notify_all()

    def leave(self, board: str) -> None:
        """A board takes no more: its shares are for the others."""
        with self._changed:
            self._gone.add(board)
            self._changed.notify_all()

    def stop(self) -> None:
        """Gives out no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether nothing more is given out."""
        return self._stopped

    def unmeasured(self) -> list[PlannedCell]:
        """The cells that no board has measured, as the first that might have would have."""
        with self._changed:
            firsts = [(share, next(iter(share.cells.values()))) for share in self._waiting]
            return [cells[place] for share, cells in firsts for place in sorted(share.left)]
