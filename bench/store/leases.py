"""Whose turn it is on a board: leases in the database of the results, which end by the database's own clock.

A lease has a fencing number that grows each time its board is taken. A holder that hung past its lease and wakes up has an
old number, and `bench.store.Store.add` refuses what it measured. Whether a clock of a host is right plays no part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

from sqlalchemy import ColumnElement, Connection, Float, delete, func, insert, literal_column, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from bench.errors import InvalidInput
from bench.owner import has_ended, parse
from bench.store.connect import reading, writing
from bench.store.database import Store
from bench.store.fence import Lease, Note, holds, write_note
from bench.store.patience import Patience, persistent
from bench.store.schema import BOARDS, QUEUE

LIMIT_S = 60.0
"""A lease without a heartbeat ends after so long: what a crash of its holder costs the next one."""
CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())::float8",
}
"""Dialect -> seconds since 1970 by the database's clock, at the moment of the statement and not of its transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A board that would do. `place`: of this board only, whatever a fleet file calls it."""

    place: str
    name: str
    sku: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """What the database knows of a board.

    `owner`: the process that has it ("" when it is free), for `run_id`, `held_s` seconds already; its lease ends in `left_s`
    seconds unless its heart beats. `trouble`: why its last check took it out, `trouble_s` ago. `hottest_c`: at its last cell.
    """

    place: str
    name: str
    sku: str
    fence: int
    owner: str = ""
    run_id: str = ""
    doing: str = ""
    held_s: float = 0.0
    left_s: float = 0.0
    trouble: str = ""
    trouble_s: float = 0.0
    hottest_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A run on a fleet: `done` of `cells` are stored. `boards`: how many it may use. `ends_in_s`: at its pace so far."""

    run_id: str
    sku: str
    boards: int
    cells: int
    done: int
    ends_in_s: float | None


def now_in(connection: Connection) -> ColumnElement[float]:
    """The database's clock, as an expression. Raises `InvalidInput` for a database whose clock is not known here."""
    if connection.dialect.name not in CLOCKS:
        raise InvalidInput(f"a fleet keeps its leases in {' or '.join(CLOCKS)}, not in {connection.dialect.name}")
    return literal_column(CLOCKS[connection.dialect.name], Float)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """The boards of one store. `limit_s`: how long a lease lasts after its last heartbeat.

    Laws: two holders never have one board; each time a board is taken its fence grows; a board whose holder is gone is
    free after `limit_s`, and at once for a process of the same machine, which sees that the holder has ended. A run that
    asks for a board that it has, lost track of it, as when the database was away: it takes it again.
    """

    store: Store
    limit_s: float = LIMIT_S

    @property
    def patience(self) -> Patience:
        """The store's."""
        return self.store.patience

    def hurry(self) -> Leases:
        """The same leases, that wait for no database."""
        return replace(self, store=self.store.hurry())

    @persistent
    def clock(self) -> float:
        """Seconds since 1970 by the database's clock."""
        with reading(self.store.engine, self.store.where) as connection:
            return float(connection.execute(select(now_in(connection))).scalar_one())

    @persistent
    def take(self, offers: Sequence[Offer], run_id: str) -> Lease | None:
        """The first of these boards that is free, for this process; None while others have all of them."""
        with writing(self.store.engine, self.store.where) as connection:
            for offer in offers:
                _know(connection, offer)
                now, left = now_in(connection), self._find_left(connection, offer, run_id)
                free = (BOARDS.c.owner.in_(["", *left])) | (BOARDS.c.ends_at <= now)
                taken = connection.execute(
                    update(BOARDS)
                    .where(BOARDS.c.place == offer.place, free)
                    .values(
                        name=offer.name,
                        sku=offer.sku,
                        fence=BOARDS.c.fence + 1,
                        owner=self.store.owner.text,
                        run_id=run_id,
                        doing="",
                        taken_at=now,
                        ends_at=now + self.limit_s,
                    )
                )
                if taken.rowcount:
                    fence = connection.execute(select(BOARDS.c.fence).where(BOARDS.c.place == offer.place)).scalar_one()
                    return Lease(place=offer.place, fence=fence, left=bool({*left} - {self.store.owner.text}))
        return None

    def _find_left(self, connection: Connection, offer: Offer, run_id: str) -> list[str]:
        """The holder, where it certainly uses the board no more: none or one."""
        row = connection.execute(select(BOARDS.c.owner, BOARDS.c.run_id).where(BOARDS.c.place == offer.place)).one()
        if (row.owner, row.run_id) == (self.store.owner.text, run_id):
            return [row.owner]
        holder = parse(row.owner)
        return [row.owner] if holder is not None and has_ended(holder) else []

    @persistent
    def beat(self, held: Collection[Lease]) -> frozenset[Lease]:
        """Makes leases last `limit_s` from now, in one transaction. Those that do: of the others the board was taken or released."""
        places = [(lease.place, lease.fence) for lease in held]
        ours = tuple_(BOARDS.c.place, BOARDS.c.fence).in_(places) & (BOARDS.c.owner != "")
        with writing(self.store.engine, self.store.where) as connection:
            connection.execute(update(BOARDS).where(ours).values(ends_at=now_in(connection) + self.limit_s))
            rows = connection.execute(select(BOARDS.c.place, BOARDS.c.fence).where(ours)).all()
        return frozenset(Lease(place=row.place, fence=row.fence) for row in rows)

    @persistent
    def note(self, lease: Lease, note: Note) -> bool:
        """Writes down what the board does. False: it was taken or released since. `Store.add` notes the same."""
        with writing(self.store.engine, self.store.where) as connection:
            return write_note(connection, lease, note)

    @persistent
    def judge(self, lease: Lease, trouble: str) -> bool:
        """Keeps what a check of the board found, "" for nothing. False: as of `note`."""
        with writing(self.store.engine, self.store.where) as connection:
            now = now_in(connection)
            done = connection.execute(update(BOARDS).where(holds(lease)).values(trouble=trouble, trouble_at=now))
        return done.rowcount > 0

    @persistent
    def release(self, lease: Lease) -> None:
        """Frees the board for the next one, unless it has it already."""
        with writing(self.store.engine, self.store.where) as connection:
            free = {"owner": "", "run_id": "", "doing": "", "ends_at": 0.0}
            connection.execute(update(BOARDS).where(holds(lease)).values(free))

    @persistent
    def boards(self) -> list[BoardState]:
        """Every board that a run has asked for, by SKU and name."""
        with reading(self.store.engine, self.store.where) as connection:
            clock = now_in(connection).label("clock")
            rows = connection.execute(select(BOARDS, clock).order_by(BOARDS.c.sku, BOARDS.c.name)).all()
        found = []
        for row in rows:
            known = {"place": row.place, "name": row.name, "sku": row.sku, "fence": row.fence}
            state = BoardState(**known, trouble=row.trouble, hottest_c=row.hottest_c)
            state = replace(state, trouble_s=row.clock - row.trouble_at if row.trouble else 0.0)
            if row.owner and row.ends_at > row.clock:
                state = replace(
                    state,
                    owner=row.owner,
                    run_id=row.run_id,
                    doing=row.doing,
                    held_s=row.clock - row.taken_at,
                    left_s=row.ends_at - row.clock,
                )
            found.append(state)
        return found

    @persistent
    def enqueue(self, run_id: str, *, sku: str, boards: int, cells: int, done: int) -> None:
        """Notes a run that needs boards, in place of an earlier note of it."""
        values = {"sku": sku, "boards": boards, "cells": cells, "done": done, "began_with": done}
        with writing(self.store.engine, self.store.where) as connection:
            connection.execute(delete(QUEUE).where(QUEUE.c.run_id == run_id))
            connection.execute(insert(QUEUE).values(run_id=run_id, began_at=now_in(connection), **values))

    @persistent
    def queue(self) -> list[Queued]:
        """The runs that go on now, by start."""
        going = {run.run_id for run in self.store.runs() if run.status == "running"}
        with reading(self.store.engine, self.store.where) as connection:
            clock = now_in(connection).label("clock")
            rows = connection.execute(select(QUEUE, clock).order_by(QUEUE.c.began_at, QUEUE.c.run_id)).all()
        found = []
        for row in rows:
            fresh, left = row.done - row.began_with, row.cells - row.done
            ends = (row.clock - row.began_at) / fresh * left if fresh > 0 else None
            known = {"run_id": row.run_id, "sku": row.sku, "boards": row.boards, "cells": row.cells, "done": row.done}
            if row.run_id in going:
                found.append(Queued(**known, ends_in_s=ends))
        return found


def _know(connection: Connection, offer: Offer) -> None:
    """A row for a board that was never asked for; another process may write it in the same moment."""
    known = select(func.count()).select_from(BOARDS).where(BOARDS.c.place == offer.place)
    if connection.execute(known).scalar_one():
        return
    empty = {"fence": 0, "owner": "", "run_id": "", "doing": "", "taken_at": 0.0, "ends_at": 0.0}
    try:
        with connection.begin_nested():
            connection.execute(
                insert(BOARDS).values(
                    place=offer.place, name=offer.name, sku=offer.sku, trouble="", trouble_at=0.0, **empty
                )
            )
    except IntegrityError:
        return
