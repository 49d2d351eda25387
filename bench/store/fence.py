"""A lease as a record is written under it: its fencing number must still be its board's, and the board is noted."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, update

from bench.store.schema import BOARDS, QUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A board that is this process's until it is released or its heartbeat stops.

    `fence`: its number. `left`: whether its last holder was a process of this machine that ended without giving it back.
    """

    place: str
    fence: int
    left: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a board does next, how hot it was (None: as before), and that at least `done` cells of its run are stored."""

    doing: str = ""
    hottest_c: float | None = None
    done: int = 0


def holds(lease: Lease) -> ColumnElement[bool]:
    """Whether a row of the boards is still this lease's. One that ended, and that no other took since, is."""
    return (BOARDS.c.place == lease.place) & (BOARDS.c.fence == lease.fence) & (BOARDS.c.owner != "")


def write_note(connection: Connection, lease: Lease, note: Note) -> bool:
    """Notes a board. False: it was taken or released since. Else none can take it before the open transaction ends."""
    heat = BOARDS.c.hottest_c if note.hottest_c is None else note.hottest_c
    noted = connection.execute(update(BOARDS).where(holds(lease)).values(doing=note.doing, hottest_c=heat))
    return noted.rowcount > 0


def write_count(connection: Connection, run_id: str, done: int) -> None:
    """Notes how many cells of a run on a fleet are stored; one that was overtaken changes nothing."""
    behind = (QUEUE.c.run_id == run_id) & (QUEUE.c.done < done)
    connection.execute(update(QUEUE).where(behind).values(done=done))
