"""A lease as a record is written under it: its fencing number must still be its board's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from bench.errors import LeaseLost
from bench.store.schema import BOARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A board that is this process's until it is released or its heartbeat stops. `fence`: its number."""

    place: str
    fence: int


def holds(lease: Lease) -> ColumnElement[bool]:
    """Whether a row of the boards is still this lease's. One that ended, and that no other took since, is."""
    return (BOARDS.c.place == lease.place) & (BOARDS.c.fence == lease.fence) & (BOARDS.c.owner != "")


def check_lease(connection: Connection, lease: Lease) -> None:
    """Raises `LeaseLost` unless the lease still has its board. Nobody can take it before the open transaction ends."""
    if connection.execute(select(BOARDS.c.fence).where(holds(lease)).with_for_update()).first() is None:
        raise LeaseLost(f"the lease of {lease.place} (number {lease.fence}) ended, and the board was given on")
