"""How long the cells of a real run took: a small table, made from its store by `python -m tools.fleet_sim record STORE`."""

from __future__ import annotations

import csv
import sys
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path

from bench.records import Record
from bench.store import Store
from bench.store.codec import pack_record

TABLE = Path(__file__).with_name("durations.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasted:
    """A cell: seconds until its first launch and from then to its end, and the bytes of its record in a store."""

    model: str
    backend: str
    recipe: str
    preparing_s: float
    measuring_s: float
    record_bytes: int


def write_table(store: Path) -> None:
    """Prints the table of the last run of a store. A cell begins, to the second, when its record says; it ends with the next."""
    with Store.open(store) as opened:
        run = opened.runs()[-1]
        records = opened.records(run.run_id)
    begun = [datetime.fromisoformat(record.started_at).timestamp() for record in records]
    ended = [*begun[1:], datetime.fromisoformat(run.finished_at).timestamp()]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(field.name for field in fields(Lasted))
    for record, start, end in zip(records, begun, ended, strict=True):
        out.writerow(astuple(_find(record, start, end)))


def _find(record: Record, start: float, end: float) -> Lasted:
    moments = [climate.at_ns / 1e9 for launch in record.launches for climate in launch.climate]
    first = min([max(start, min(moments)), end]) if moments else end
    return Lasted(
        model=record.model,
        backend=record.backend,
        recipe=record.recipe,
        preparing_s=round(first - start, 1),
        measuring_s=round(end - first, 1),
        record_bytes=len(pack_record(record)),
    )


def read_table() -> list[Lasted]:
    """The table that is committed."""
    with TABLE.open(newline="") as file:
        return [
            Lasted(
                model=row["model"],
                backend=row["backend"],
                recipe=row["recipe"],
                preparing_s=float(row["preparing_s"]),
                measuring_s=float(row["measuring_s"]),
                record_bytes=int(row["record_bytes"]),
            )
            for row in csv.DictReader(file)
        ]
