"""The store: begin a run, add its cells as they come, read everything back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, final

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from bench.errors import Damaged, InvalidInput, LeaseLost, Unavailable
from bench.owner import Owner, lives, parse, this_process
from bench.records import SEARCH, Record, Run
from bench.store.codec import (
    pack_again,
    pack_record,
    pack_run,
    unpack_again,
    unpack_record,
    unpack_run,
)
from bench.store.connect import connect, reading, writing
from bench.store.fence import Lease, Note, write_count, write_note
from bench.store.figures import NightFigures
from bench.store.kept_figures import Seen, pack_figures, unpack_figures
from bench.store.patience import Patience, persistent
from bench.store.remeasured import Remeasured
from bench.store.schema import CELLS, FIGURES, REMEASURED, RUNS, TRIAGE, prepare
from bench.store.triage import Triage

SILENT_FOR = timedelta(hours=1)
"""A run of another machine that stored nothing for so long counts as gone."""
SILENT_FLEET = timedelta(minutes=3)
"""A run on a fleet has a heartbeat of some seconds. Hosts' clocks may be a minute apart."""


DAMAGED = "damaged"
"""The status of a run whose row cannot be read, or of whose records one cannot."""


def utc_now() -> datetime:
    """The clock a store uses unless it is given another."""
    return datetime.now(UTC)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Runs and records in one database.

    Laws: `add` is one transaction, so a killed process loses at most the record it was adding;
    adding the same (run_id, key) again replaces it; several processes may use one store at once;
    what is read equals what was added. A server that goes away while a run goes on is waited for as `patience` says.
    """

    engine: Engine
    where: str
    owner: Owner = field(default_factory=this_process)
    now: Callable[[], datetime] = utc_now
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def open(
        cls, url_or_path: str | Path, *, now: Callable[[], datetime] = utc_now, say: Callable[[str], None] | None = None
    ) -> Self:
        """Opens, creates or upgrades the store.

        `say`: where a user reads that the database is waited for. Without it, opening waits for none.
        InvalidInput: not a store, damaged, or of a newer schema. Unavailable: no driver, no space, locked.
        """
        engine, where = connect(url_or_path)
        patience = Patience(say=say) if say else Patience()

        def begin() -> None:
            with writing(engine, where) as connection:
                prepare_tables(connection, where)

        try:
            (patience if say else Patience(limit_s=0)).persist(begin)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine=engine, where=where, now=now, patience=patience)

    def hurry(self) -> Self:
        """The same store, that waits for no database."""
        return replace(self, patience=Patience(limit_s=0))

    def close(self) -> None:
        """Closes the connections to the database."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @persistent
    def begin_run(self, run: Run) -> None:
        """Marks a run as running in this process. A known run is taken over (`--resume`).

        Unavailable: another process that still lives runs it.
        """
        values = {
            "started_at": run.started_at,
            "target": run.target,
            "suite": run.suite,
            "status": "running",
            "finished_at": "",
            "body": pack_run(run),
            "owner": self.owner.text,
            "touched_at": self.now().isoformat(),
        }
        with writing(self.engine, self.where) as connection:
            known = connection.execute(select(RUNS).where(RUNS.c.run_id == run.run_id).with_for_update()).first()
            if known is None:
                connection.execute(insert(RUNS).values(run_id=run.run_id, **values))
                return
            if known.owner != self.owner.text and self.status_of(known) == "running":
                raise Unavailable(f"run {run.run_id} is still going on: {known.owner}")
            connection.execute(update(RUNS).where(RUNS.c.run_id == run.run_id).values(**values))

    @persistent
    def finish_run(self, run_id: str, status: str, finished_at: str) -> None:
        """Marks how a run ended: "finished" or "interrupted". InvalidInput: there is no such run."""
        with writing(self.engine, self.where) as connection:
            done = connection.execute(
                update(RUNS).where(RUNS.c.run_id == run_id).values(status=status, finished_at=finished_at)
            )
            if done.rowcount == 0:
                raise InvalidInput(f"{self.where} has no run {run_id!r}")

    @persistent
    def add(self, record: Record, lease: Lease | None = None, note: Note | None = None) -> None:
        """Stores one cell in one transaction. `lease`: of the board that measured it; `note`: what is noted of that board.

        Unavailable: disk full. InvalidInput: its run was not begun. LeaseLost: the board is another holder's meanwhile.
        """
        body, note = pack_record(record), note or Note()
        same = (CELLS.c.run_id == record.run_id) & (CELLS.c.key == record.key)
        with writing(self.engine, self.where) as connection:
            if lease is not None and not write_note(connection, lease, note):
                raise LeaseLost(f"the lease of {lease.place} (number {lease.fence}) ended, and the board was given on")
            if connection.execute(select(RUNS.c.run_id).where(RUNS.c.run_id == record.run_id)).first() is None:
                raise InvalidInput(f"{self.where} has no run {record.run_id!r}")
            connection.execute(delete(CELLS).where(same))
            connection.execute(
                insert(CELLS).values(run_id=record.run_id, key=record.key, status=record.status.value, body=body)
            )
            # Last, because all boards of a run write these two rows, and each waits until the one before it has committed.
            connection.execute(
                update(RUNS).where(RUNS.c.run_id == record.run_id).values(touched_at=self.now().isoformat())
            )
            if note.done:
                write_count(connection, record.run_id, note.done)

    @persistent
    def touch_runs(self) -> None:
        """Notes that this process's runs still go on, where they may have no record to add for long."""
        with writing(self.engine, self.where) as connection:
            mine = (RUNS.c.owner == self.owner.text) & (RUNS.c.status == "running")
            connection.execute(update(RUNS).where(mine).values(touched_at=self.now().isoformat()))

    @persistent
    def runs(self) -> list[Run]:
        """All runs by start. A run whose process is gone before it finished is "interrupted", and one that cannot be read is
        DAMAGED: it does not stand in the way of the others."""
        with reading(self.engine, self.where) as connection:
            rows = connection.execute(select(RUNS).order_by(RUNS.c.started_at, RUNS.c.run_id)).all()
        return [self._read_run(row) for row in rows]

    def _read_run(self, row: Row[Any]) -> Run:
        try:
            run = unpack_run(row.body, f"{self.where}: run {row.run_id}")
            return replace(run, status=self.status_of(row), finished_at=row.finished_at)
        except Damaged:
            known = {"run_id": row.run_id, "started_at": row.started_at, "target": row.target, "suite": row.suite}
            return Run(**known, status=DAMAGED, finished_at=row.finished_at)

    @persistent
    def records(self, run_id: str | None = None) -> list[Record]:
        """The cells of one run, or of all, by start of the run and then as they were added."""
        query = select(CELLS).join(RUNS).order_by(RUNS.c.started_at, RUNS.c.run_id, CELLS.c.id)
        if run_id is not None:
            query = query.where(CELLS.c.run_id == run_id)
        with reading(self.engine, self.where) as connection:
            rows = connection.execute(query).all()
        return [unpack_record(row.body, f"{self.where}: run {row.run_id}, cell {row.key}") for row in rows]

    @persistent
    def figures(self, run_ids: Sequence[str], made_by: str, seen: Seen) -> dict[str, NightFigures]:
        """What was kept of these runs by code of this digest, without what is damaged or had a record added since."""
        query = select(FIGURES.c.run_id, FIGURES.c.body).join(RUNS, RUNS.c.run_id == FIGURES.c.run_id)
        query = query.where(FIGURES.c.run_id.in_(run_ids), FIGURES.c.made_by == made_by)
        with reading(self.engine, self.where) as connection:
            rows = connection.execute(query.where(FIGURES.c.touched_at == RUNS.c.touched_at)).all()
        found = {}
        for run_id, body in rows:
            with suppress(InvalidInput):
                found[run_id] = unpack_figures(body, f"{self.where}: figures of run {run_id}", seen)
        return found

    def touched_at(self, run_id: str) -> str:
        """When a record was last added to a run: `keep_figures` is given what this said before the records were read."""
        with reading(self.engine, self.where) as connection:
            return connection.execute(select(RUNS.c.touched_at).where(RUNS.c.run_id == run_id)).scalar() or ""

    @persistent
    def keep_figures(self, run_id: str, night: NightFigures, *, made_by: str, touched_at: str) -> None:
        """Keeps what a history takes from a run in place of what was kept before. Unavailable: as `add`."""
        body = pack_figures(night)
        with writing(self.engine, self.where) as connection:
            connection.execute(select(RUNS.c.run_id).where(RUNS.c.run_id == run_id).with_for_update())
            connection.execute(delete(FIGURES).where(FIGURES.c.run_id == run_id))
            values = {"run_id": run_id, "touched_at": touched_at, "made_by": made_by, "body": body}
            connection.execute(insert(FIGURES).values(**values))

    def thinned(self) -> frozenset[str]:
        """Runs that were marked by `mark_thinned` and had no record added since."""
        query = select(RUNS.c.run_id).where(RUNS.c.thinned_at != "", RUNS.c.thinned_at == RUNS.c.touched_at)
        with reading(self.engine, self.where) as connection:
            return frozenset(connection.execute(query).scalars())

    def mark_thinned(self, run_id: str, touched_at: str) -> None:
        """Marks that all records of a run are thin. `touched_at`: what it said before they were read."""
        with writing(self.engine, self.where) as connection:
            connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(thinned_at=touched_at))

    def triage(self) -> list[Triage]:
        """What was decided about alarms, by time."""
        with reading(self.engine, self.where) as connection:
            rows = connection.execute(select(TRIAGE).order_by(TRIAGE.c.changed_at, TRIAGE.c.alarm)).all()
        return [Triage(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row's columns

    def decide(self, triage: Triage) -> None:
        """Keeps a decision about an alarm in place of an earlier one."""
        with writing(self.engine, self.where) as connection:
            connection.execute(delete(TRIAGE).where(TRIAGE.c.alarm == triage.alarm))
            connection.execute(insert(TRIAGE).values(**asdict(triage)))

    def remeasured(self) -> list[Remeasured]:
        """What was measured again, by start of the run."""
        query = select(REMEASURED).join(RUNS).order_by(RUNS.c.started_at, REMEASURED.c.id)
        with reading(self.engine, self.where) as connection:
            rows = connection.execute(query).all()
        return [unpack_again(row.body, f"{self.where}: run {row.run_id}, measured again {row.key}") for row in rows]

    def add_remeasured(self, again: Remeasured) -> None:
        """Keeps one cell that was measured again, in place of an earlier try of that night."""
        same = (REMEASURED.c.run_id == again.run_id) & (REMEASURED.c.key == again.key)
        body = pack_again(again)
        with writing(self.engine, self.where) as connection:
            connection.execute(delete(REMEASURED).where(same))
            connection.execute(insert(REMEASURED).values(run_id=again.run_id, key=again.key, body=body))

    def last_interrupted(self, target: str, suite: str) -> Run | None:
        """The latest interrupted run of this target and suite that no process runs, but no search's; None where there is none."""
        for run in reversed(self.runs()):
            if (run.target, run.suite, run.status) == (target, suite, "interrupted") and SEARCH not in run.request:
                return run
        return None

    @persistent
    def done_keys(self, run_id: str) -> frozenset[str]:
        """Keys of the stored cells, whatever their status."""
        with reading(self.engine, self.where) as connection:
            return frozenset(connection.execute(select(CELLS.c.key).where(CELLS.c.run_id == run_id)).scalars())

    def status_of(self, row: Row[Any]) -> str:
        """The status of a run as it is now: "running" needs a process that can still be at it."""
        status = str(row.status)
        if status != "running":
            return status
        owner = parse(row.owner)
        alive = lives(owner) if owner else False
        if alive is None:
            fleet = unpack_run(row.body, f"{self.where}: run {row.run_id}").request.get("fleet")
            most = SILENT_FLEET if fleet else SILENT_FOR
            alive = bool(row.touched_at) and self.now() - datetime.fromisoformat(row.touched_at) < most
        return "running" if alive else "interrupted"


def prepare_tables(connection: Connection, where: str) -> None:
    """Calls `prepare`, and once more where another process created the tables in between."""
    try:
        with connection.begin_nested():
            prepare(connection, where)
    except (IntegrityError, ProgrammingError):
        prepare(connection, where)
