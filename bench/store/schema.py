"""Tables, their versions and the steps between versions.

Schema history:
1  runs and cells; a run did not say which process it belonged to.
2  runs.owner and runs.touched_at: they show whether a run was killed or still goes on.
3  triage: what was decided about the alarms of `pressbench regress`.
4  remeasured: suspects that were run side by side with their last good file.
5  figures: what a history takes from the records of a run, so that a report need not read them all.
6  boards: who has which board of a fleet, until when; queue: the runs that need boards.
7  runs.thinned_at: runs of which no raw samples are left to thin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
    update,
)

from bench.errors import InvalidInput

SCHEMA_VERSION = 7
METADATA = MetaData()

VERSION = Table("schema_version", METADATA, Column("version", Integer, primary_key=True))

RUNS = Table(
    "runs",
    METADATA,
    Column("run_id", String(200), primary_key=True),
    Column("started_at", String(40), nullable=False),
    Column("target", String(200), nullable=False),
    Column("suite", String(400), nullable=False),
    Column("status", String(20), nullable=False),
    Column("finished_at", String(40), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("owner", String(400), nullable=False, server_default=""),
    Column("touched_at", String(40), nullable=False, server_default=""),
    Column("thinned_at", String(40), nullable=False, server_default=""),
    Index("runs_by_start", "started_at"),
)

CELLS = Table(
    "cells",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(200), ForeignKey("runs.run_id"), nullable=False),
    Column("key", String(200), nullable=False),
    Column("status", String(20), nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "key", name="one_record_a_cell"),
)

TRIAGE = Table(
    "triage",
    METADATA,
    Column("alarm", String(20), primary_key=True),
    Column("series", Text, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("run_id", String(200), nullable=False),
    Column("state", String(20), nullable=False),
    Column("note", Text, nullable=False),
    Column("changed_at", String(40), nullable=False),
)

REMEASURED = Table(
    "remeasured",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(200), ForeignKey("runs.run_id"), nullable=False),
    Column("key", String(200), nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "key", name="once_a_night"),
)

FIGURES = Table(
    "figures",
    METADATA,
    Column("run_id", String(200), ForeignKey("runs.run_id"), primary_key=True),
    Column("touched_at", String(40), nullable=False),
    Column("made_by", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""Made from the records of a run when it had this `runs.touched_at`, by code of this digest; else they do not count."""

BOARDS = Table(
    "boards",
    METADATA,
    Column("place", String(400), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sku", String(100), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("owner", String(400), nullable=False),
    Column("run_id", String(200), nullable=False),
    Column("doing", Text, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("trouble_at", Float, nullable=False),
    Column("hottest_c", Float, nullable=True),
)

QUEUE = Table(
    "queue",
    METADATA,
    Column("run_id", String(200), ForeignKey("runs.run_id"), primary_key=True),
    Column("sku", String(100), nullable=False),
    Column("boards", Integer, nullable=False),
    Column("cells", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("began_with", Integer, nullable=False),
)


def prepare(connection: Connection, where: str) -> None:
    """Creates the tables in an empty database, or brings an older one up to date, in the open transaction.

    InvalidInput: the schema is newer than this code, or the database is not a pressbench store.
    """
    names = set(inspect(connection).get_table_names())
    if VERSION.name not in names:
        if names & {RUNS.name, CELLS.name}:
            raise InvalidInput(f"{where} has tables of that name but no schema version: it is not a pressbench store")
        METADATA.create_all(connection)
        connection.execute(insert(VERSION).values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(VERSION.c.version).with_for_update()).scalar()
    if found is None or found > SCHEMA_VERSION:
        raise InvalidInput(
            f"{where} has schema version {found}, this pressbench reads up to {SCHEMA_VERSION}: "
            "upgrade pressbench, or give another --results"
        )
    for version in range(found + 1, SCHEMA_VERSION + 1):
        MIGRATIONS[version](connection)
    if found < SCHEMA_VERSION:
        connection.execute(update(VERSION).values(version=SCHEMA_VERSION))


def upgrade_to_2(connection: Connection) -> None:
    """Adds the process that a run belongs to; it stays empty for runs begun before."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN owner VARCHAR(400) DEFAULT '' NOT NULL"))
    connection.execute(text("ALTER TABLE runs ADD COLUMN touched_at VARCHAR(40) DEFAULT '' NOT NULL"))


def upgrade_to_3(connection: Connection) -> None:
    """Adds the table of triage, empty."""
    TRIAGE.create(connection)


def upgrade_to_4(connection: Connection) -> None:
    """Adds the table of what was measured again, empty."""
    REMEASURED.create(connection)


def upgrade_to_5(connection: Connection) -> None:
    """Adds the table of figures, empty."""
    FIGURES.create(connection)


def upgrade_to_6(connection: Connection) -> None:
    """Adds the tables of a fleet's boards and runs, empty."""
    BOARDS.create(connection)
    QUEUE.create(connection)


def upgrade_to_7(connection: Connection) -> None:
    """Adds what `touched_at` was when a run was thinned; it stays empty until the next night looks."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN thinned_at VARCHAR(40) DEFAULT '' NOT NULL"))


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {
    2: upgrade_to_2,
    3: upgrade_to_3,
    4: upgrade_to_4,
    5: upgrade_to_5,
    6: upgrade_to_6,
    7: upgrade_to_7,
}
"""Version -> the step from the one before it."""
