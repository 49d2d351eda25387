"""The cells of a run as boards take them: a baseline with all that is compared with it, whole on one board."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from threading import Condition
from types import TracebackType
from typing import Protocol, final

from bench.line.plan import Place, Plan, PlannedCell, key_on, move, place_of
from bench.records import Record

MOST_LOST = 2
"""So many boards are lost while they measure one cell; then it is set aside, or it would take every board of the fleet."""
LOOK_S = 0.5
"""How often one who waits looks whether the run was stopped: a signal does not wake a thread."""


@dataclass(slots=True, kw_only=True, eq=False)
class Share:
    """A baseline and its recipes.

    `cells`: as one of its boards measures them, the baseline first. `boards`: those that may take it. `left`: the
    places in that order of which no record is stored. `lost`: place -> boards that were lost while they measured it.
    """

    plan: Plan
    cells: tuple[PlannedCell, ...]
    boards: frozenset[str]
    left: set[int]
    lost: dict[int, set[str]] = field(default_factory=dict)

    def on(self, board: str) -> list[tuple[int, PlannedCell]]:
        """What is left, as this board measures it: the baseline again where another board or an earlier try had it.

        Cells that a board was lost at come last, so that the others are stored; those of `is_set_aside` not at all.
        """
        own = self.cells[0].conditions.device == board
        cells = self.cells if own else move(self.plan, self.cells, board)
        places = sorted({0, *self.left}, key=lambda place: (place > 0 and place in self.lost, place))
        return [(place, cells[place]) for place in places if not self.is_set_aside(place)]

    def is_set_aside(self, place: int) -> bool:
        """Whether no board of this run measures a place any more: several were lost at it, or at its baseline."""
        return any(len(self.lost.get(one, ())) >= MOST_LOST for one in (0, place))

    @property
    def open(self) -> bool:
        """Whether something is left for a board of this run."""
        return any(not self.is_set_aside(place) for place in self.left)

    def begun(self) -> list[PlannedCell]:
        """What is left, as planned: what is made of it does for each of its boards."""
        return [cell for _, cell in self.on(self.cells[0].conditions.device)]


def make_shares(plan: Plan, boards: Sequence[str], stored: Iterable[Record] = ()) -> list[Share]:
    """The shares of a plan for these boards: one of its own each where each measures all; else any may take any.

    `stored`: records of an earlier try, each with a key that its cell has today; of several boards' records of one
    place, one is enough. The work grows with cells and records, not with boards.
    """
    each = plan.request.each
    groups: dict[tuple[object, ...], list[PlannedCell]] = {}
    for cell in plan.cells:
        name = (cell.model.name, cell.backend.title, cell.conditions)
        groups.setdefault(name, []).append(cell)
    known: dict[Place, list[Record]] = {}
    for record in stored:
        alike = replace(record.conditions, device="")
        known.setdefault((record.model, record.recipe, record.backend, alike), []).append(record)
    found = []
    for cells in groups.values():
        left = {place for place, cell in enumerate(cells) if not _is_stored(plan, cell, known)}
        able = frozenset([cells[0].conditions.device] if each else boards)
        if left:
            found.append(Share(plan=plan, cells=tuple(cells), boards=able, left=left))
    return found


def order_ahead(shares: Sequence[Share], boards: int) -> list[PlannedCell]:
    """The cells in the order in which so many boards need them: they begin with so many shares at once."""
    begun = [share.begun() for share in shares]
    waves = [begun[first : first + boards] for first in range(0, len(begun), boards)]
    return [cell for wave in waves for one_each in zip_longest(*wave) for cell in one_each if cell is not None]


def _is_stored(plan: Plan, cell: PlannedCell, known: dict[Place, list[Record]]) -> bool:
    records = known.get(place_of(cell), [])
    if plan.request.each:
        return any(record.key == cell.key for record in records)
    return any(record.key == key_on(plan, cell, record.conditions.device) for record in records)


class Changed(Protocol):
    """What `threading.Condition` does. A simulation of many boards hands in one with a clock of its own."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None: ...
    def wait(self, timeout: float | None = None) -> bool:
        """Waits until `notify_all`, or so many seconds."""

    def notify_all(self) -> None:
        """Wakes all who wait."""


@dataclass(slots=True, kw_only=True, eq=False)
class Lane:
    """The shares of the same boards. `out`: those that a board has."""

    waiting: deque[Share] = field(default_factory=deque)
    out: int = 0


@final
class Shares:
    """The shares that no board has finished. Threads of boards take them; law: a place is stored once, or stays left.

    No call grows with the number of shares, and with that of boards only where all of them are woken.
    """

    def __init__(self, shares: Iterable[Share], changed: Changed | None = None) -> None:
        self._lanes, self._of_board = dict[frozenset[str], Lane](), dict[str, list[Lane]]()
        self._changed, self._stopped, self._gone = changed or Condition(), False, set[str]()
        self._aside: list[Share] = []
        self.total = self.done = 0
        for share in shares:
            self.total += len(share.left)
            if share.boards not in self._lanes:
                lane = self._lanes[share.boards] = Lane()
                for board in share.boards:
                    self._of_board.setdefault(board, []).append(lane)
            self._lanes[share.boards].waiting.append(share)

    def wait_for(self, board: str) -> bool:
        """Waits for a share that this board may take. False: there will be none, or the run is stopped."""
        lanes = self._of_board.get(board, [])
        with self._changed:
            while not self._stopped and board not in self._gone:
                if any(lane.waiting for lane in lanes):
                    return True
                if not any(lane.out for lane in lanes):
                    return False
                self._changed.wait()  # no need to look: `put`, `leave` and `stop` wake it
        return False

    def pause(self, seconds: float) -> None:
        """Waits, or less long if something changes."""
        with self._changed:
            self._changed.wait(seconds)

    def take(self, board: str) -> Share | None:
        """The first share that this board may take; None where there is none now, or the run is stopped."""
        with self._changed:
            if self._stopped or board in self._gone:
                return None
            for lane in self._of_board.get(board, []):
                if lane.waiting:
                    lane.out += 1
                    return lane.waiting.popleft()
        return None

    def finish(self, share: Share, place: int) -> None:
        """A record of this place is stored. A baseline that was measured again does not count twice."""
        with self._changed:
            self.done += place in share.left
            share.left.discard(place)

    def lose(self, share: Share, place: int, board: str) -> bool:
        """A board was lost while it measured this place. Whether the place is set aside."""
        with self._changed:
            share.lost.setdefault(place, set()).add(board)
            return share.is_set_aside(place)

    def put(self, share: Share) -> None:
        """A board is done with a share; what is left of it waits for the next board, before all others.

        Behind all others where a board was lost at it: it may have been the cell's doing.
        """
        lane = self._lanes[share.boards]
        with self._changed:
            lane.out -= 1
            if share.left and not share.open:
                self._aside.append(share)
            elif share.left and share.lost:
                lane.waiting.append(share)
            elif share.left:
                lane.waiting.appendleft(share)
            if share.left or not lane.out:  # to those who wait, nothing else is news
                self._changed.notify_all()

    def leave(self, board: str) -> None:
        """A board takes no more: its shares are for the others."""
        with self._changed:
            self._gone.add(board)
            self._changed.notify_all()

    def come_back(self, board: str, seconds: float) -> bool:
        """Waits so long, then lets a board that left take shares again.

        False, and at once, where there is nothing for it any more, and where no other board has work: when the last one
        comes back is not known.
        """
        left = seconds
        with self._changed:
            while not self._stopped and self._is_wanted(board):
                if left <= 0:
                    self._gone.discard(board)
                    return True
                if not self._changed.wait(min(LOOK_S, left)):
                    left -= LOOK_S
        return False

    def _is_wanted(self, board: str) -> bool:
        busy = [boards for boards, lane in self._lanes.items() if lane.waiting or lane.out]
        others = any(name != board and name not in self._gone for boards in busy for name in boards)
        return others and any(board in boards for boards in busy)

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
        """The cells that no board has measured, as planned."""
        with self._changed:
            waiting = [*(share for lane in self._lanes.values() for share in lane.waiting), *self._aside]
            return [share.cells[place] for share in waiting for place in sorted(share.left)]
