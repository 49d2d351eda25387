"""Copies a whole store into another: one transaction, every row as it is, counted on both sides before it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select

from bench.errors import InvalidInput, Unavailable
from bench.store.connect import reading, writing
from bench.store.database import Store
from bench.store.schema import CELLS, REMEASURED, RUNS, TRIAGE

OF_RUNS = (RUNS, CELLS, REMEASURED)
"""Tables whose rows belong to a run, that of the runs first."""
SOME = 200
"""Runs that are asked about in one query: databases limit the values of one."""


def copy_store(source: Store, destination: Store) -> Mapping[str, int]:
    """How many rows of each table were copied. The source stays as it is.

    Raises `InvalidInput` where the destination has a run of the source already, or a run still goes on, and
    `Unavailable` where the destination does not hold what was written to it; then it is left as it was.
    """
    going = [run.run_id for run in source.runs() if run.status == "running"]
    if going:
        raise InvalidInput(f"{source.where}: run {going[0]} still goes on: wait until it has ended")
    with reading(source.engine, source.where) as here, writing(destination.engine, destination.where) as there:
        run_ids = list(here.execute(select(RUNS.c.run_id).order_by(RUNS.c.started_at, RUNS.c.run_id)).scalars())
        check_new(there, run_ids, source.where, destination.where)
        for run_id in run_ids:
            for table in OF_RUNS:
                copy_rows(here, there, table, run_id)
        counts = {table.name: count(here, table, run_ids) for table in OF_RUNS}
        for table in OF_RUNS:
            wanted, found = counts[table.name], count(there, table, run_ids)
            if wanted != found:
                raise Unavailable(
                    f"{destination.where}: {found[0]} rows and {found[1]} bytes of {table.name} arrived, of {wanted[0]} "
                    f"and {wanted[1]}: nothing was kept"
                )
        decided = copy_triage(here, there)
    return {name: rows for name, (rows, _) in counts.items()} | {TRIAGE.name: decided}


def check_new(there: Connection, run_ids: list[str], source: str, destination: str) -> None:
    """Raises `InvalidInput` for a run that the destination has: two runs of one id cannot be told apart."""
    known = [
        run_id
        for first in range(0, len(run_ids), SOME)
        for run_id in there.execute(
            select(RUNS.c.run_id).where(RUNS.c.run_id.in_(run_ids[first : first + SOME])).order_by(RUNS.c.run_id)
        ).scalars()
    ]
    if known:
        more = f" and {len(known) - 1} more runs" if len(known) > 1 else ""
        raise InvalidInput(
            f"{destination} has run {known[0]}{more} of {source} already: nothing was copied; name an empty database, or "
            "one that none of these runs is in"
        )


def copy_rows(here: Connection, there: Connection, table: Table, run_id: str) -> None:
    """The rows of one run in their order, without the numbers that a database gives them."""
    given = [column for column in table.columns if column.name != "id"]
    order = [column for column in table.columns if column.name == "id"]
    rows = here.execute(select(*given).where(table.c.run_id == run_id).order_by(*order)).all()
    if rows:
        there.execute(insert(table), [dict(row._mapping) for row in rows])  # noqa: SLF001 - SQLAlchemy's public name


def count(connection: Connection, table: Table, run_ids: list[str]) -> tuple[int, int]:
    """How many rows these runs have in a table, and how many bytes are in them."""
    rows = size = 0
    for first in range(0, len(run_ids), SOME):
        own = table.c.run_id.in_(run_ids[first : first + SOME])
        found: Any = connection.execute(
            select(func.count(), func.coalesce(func.sum(func.length(table.c.body)), 0)).where(own)
        ).one()
        rows, size = rows + int(found[0]), size + int(found[1])
    return rows, size


def copy_triage(here: Connection, there: Connection) -> int:
    """The decisions about alarms; of two about one alarm the newer stays."""
    copied = 0
    for row in here.execute(select(TRIAGE)).all():
        known = there.execute(select(TRIAGE.c.changed_at).where(TRIAGE.c.alarm == row.alarm)).scalar()
        if known is None or known < row.changed_at:
            there.execute(delete(TRIAGE).where(TRIAGE.c.alarm == row.alarm))
            there.execute(insert(TRIAGE).values(**row._mapping))  # noqa: SLF001 - SQLAlchemy's public name
            copied += 1
    return copied
