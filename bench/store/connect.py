"""Opens the database behind a store and explains its errors. Everything particular to SQLite is here."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from bench.errors import DatabaseAway, InvalidInput, PressbenchError, Unavailable, first_line

BUSY_TIMEOUT_S = 60.0
NOTICED = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""Parameters of libpq by which a server whose machine is gone is noticed after half a minute (in s; the last in ms): without
them a query may wait for a quarter of an hour. What the URL says goes first."""
LIBPQ = {"psycopg", "psycopg2"}
OPENED = "opened"
"""In the facts of a connection: the path that it has opened, and which file of the disk that was."""
AWAY = ("08", "57P")
"""SQLSTATE of a lost connection, and of a server that stops or starts."""
UNWRITABLE = ("SQLITE_CANTOPEN", "SQLITE_READONLY")
"""How names of errors begin where the file, or its folder, cannot be written."""
UNLOCKED = {
    "SQLITE_PROTOCOL",
    "SQLITE_IOERR_LOCK",
    "SQLITE_IOERR_RDLOCK",
    "SQLITE_IOERR_UNLOCK",
    "SQLITE_IOERR_CHECKRESERVEDLOCK",
    "SQLITE_IOERR_SHMLOCK",
    "SQLITE_IOERR_SHMMAP",
    "SQLITE_IOERR_SHMOPEN",
}
"""Errors of a disk that cannot lock a file or share memory, as a network's."""
FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE"}


def connect(url_or_path: str | Path) -> tuple[Engine, str]:
    """The engine and the name to use in messages (a password is left out).

    A path or a `sqlite:///` URL is a SQLite file, made with its folder where absent. InvalidInput: the URL
    cannot be read. Unavailable: its driver is not installed, or the folder cannot be made.
    """
    text = str(url_or_path)
    url = text if "://" in text else f"sqlite:///{text}"
    try:
        engine = create_engine(url, connect_args=_find_arguments(make_url(url)))
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise Unavailable(f"no driver for {url.split('://', 1)[0]}: {error}; for PostgreSQL install psycopg") from error
    except ArgumentError as error:
        raise InvalidInput(f"{text.split('://', 1)[0]}://...: not a database URL: {error}") from error
    if engine.dialect.name != "sqlite":
        return engine, engine.url.render_as_string()
    path = Path(engine.url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{path.parent}: {error.strerror}") from error
    event.listen(engine, "connect", partial(prepare_sqlite, path=path.absolute() if _is_file(engine) else None))
    event.listen(engine, "begin", begin_sqlite)
    return engine, str(path)


def _find_arguments(url: URL) -> dict[str, int]:
    """What a connection is opened with beside the URL."""
    if url.get_dialect().driver not in LIBPQ:
        return {}
    return {key: value for key, value in NOTICED.items() if key not in url.query}


def find_absent_file(url: str) -> Path | None:
    """The file of a SQLite URL, if it does not exist: reading such a store would create it. None for other URLs."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    file = Path(parsed.database)
    return None if file.exists() else file


def _is_file(engine: Engine) -> bool:
    """Whether a SQLite engine opens the file that its URL names: not one in memory, nor a URI, which SQLite reads itself."""
    name = engine.url.database or ""
    return name not in ("", ":memory:") and not name.startswith("file:")


def prepare_sqlite(connection: sqlite3.Connection, entry: ConnectionPoolEntry, *, path: Path | None) -> None:
    """Readers beside one writer (WAL), durable at every commit, 60 s of patience; `begin_sqlite` begins transactions."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")
    use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if path:
        entry.info[OPENED] = path, path.stat()


def use_wal(connection: sqlite3.Connection) -> None:
    """Switches the file to WAL, waiting as long as `busy_timeout` would.

    Two runs that begin at the same moment on an empty folder meet here: while one writes the first tables, SQLite
    answers BUSY to the other's switch at once instead of waiting.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while not try_wal(connection, last_try=time.monotonic() > deadline):
        time.sleep(0.01)


def try_wal(connection: sqlite3.Connection, *, last_try: bool) -> bool:
    """Switches once. False: another process was in the way. The last try raises instead."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if last_try or not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            raise
        return False
    return True


def begin_sqlite(connection: Connection) -> None:
    """Takes the write lock at once. A lock asked for after a read fails instead of waiting."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def writing(engine: Engine, where: str) -> Iterator[Connection]:
    """One transaction: all of it or nothing. Raises database errors as `PressbenchError`, and `Unavailable` as `check_place`."""
    try:
        with engine.begin() as connection:
            check_place(connection, where)
            yield connection
    except DBAPIError as error:
        raise explain_error(error, where) from error


def check_place(connection: Connection, where: str) -> None:
    """Raises `Unavailable` where the SQLite file that is open is not the one at its place any more: SQLite would write on, into a
    file that has no name."""
    if OPENED not in connection.info:
        return
    file, opened = connection.info[OPENED]
    try:
        same = os.path.samestat(opened, file.stat())
    except OSError:  # also where its folder is gone, or a file has the name of that
        same = False
    if not same:
        raise Unavailable(
            f"{where} was deleted or moved, or another file was put in its place, while it was in use: what is measured now would be lost"
        )


@contextmanager
def reading(engine: Engine, where: str) -> Iterator[Connection]:
    """A read that takes no lock. Raises database errors as `PressbenchError`."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection
    except DBAPIError as error:
        raise explain_error(error, where) from error


def explain_error(error: DBAPIError, where: str) -> PressbenchError:
    """What a database error means to the user."""
    cause = error.orig
    name = getattr(cause, "sqlite_errorname", "") if isinstance(cause, sqlite3.Error) else ""
    if name in FULL:
        return Unavailable(f"disk full: {where} could not take the record; free space and continue with --resume")
    if name == "SQLITE_NOTADB":
        return InvalidInput(f"{where} is not a pressbench store: {cause}")
    if name == "SQLITE_CORRUPT":
        return InvalidInput(f"{where} is damaged: {cause}; move it away, or restore it")
    if said := _explain_disk(name, where, cause):
        return Unavailable(said)
    text = f"{where}: {first_line(cause or error)}"
    return DatabaseAway(text) if _is_away(error) else Unavailable(text)


def _explain_disk(name: str, where: str, cause: object) -> str:
    """Why SQLite cannot use a file that is whole, and what to do; "" for another error. `name`: of the error."""
    if name.startswith(UNWRITABLE):
        return (
            f"{where} or its folder cannot be written ({cause}), and SQLite writes beside a database that it only reads: "
            "copy it to a folder that you can write to"
        )
    if name in UNLOCKED:
        return (
            f"{where}: {cause}; SQLite needs a disk that locks files, which many network disks do not: name a folder of "
            "this machine, or a server with --database"
        )
    if name.startswith("SQLITE_BUSY"):
        return f"{where} was locked by another process for {BUSY_TIMEOUT_S:g} s: try again when it has ended"
    return ""


def _is_away(error: DBAPIError) -> bool:
    """Whether a database server may be back in a moment."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = str(getattr(error.orig, "sqlstate", None) or "")
    lost = isinstance(error, OperationalError) and (not state or state.startswith(AWAY))
    return error.connection_invalidated or lost
