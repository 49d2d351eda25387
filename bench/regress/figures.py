"""Records -> what a history takes from them; what was read once is kept in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import bench
from bench.errors import Damaged, Unavailable
from bench.records import Record, Run
from bench.regress.environment import read_environment
from bench.regress.series import ON_BOARD, SCORE, join_cell
from bench.report.table import energy_columns, find_p50_ms, memory_columns
from bench.store import DAMAGED, CellFigures, Figure, Identity, NightFigures, Store, gather
from bench.store.kept_figures import Seen
from bench.types import Clock, Status

BELIEVED = {Status.OK, Status.INCONCLUSIVE}
"""Statuses whose figures stand in a history: an untrusted figure would be a change that never was."""
AT_ONCE = 100
"""Runs that the store is asked for at once."""
CODE = (
    "regress/figures.py",
    "regress/environment.py",
    "regress/series.py",
    "report/table.py",
    "stats",
    "store",
    "device",
    "records.py",
    "types.py",
)
"""Our code that figures depend on: where any of it changes, they are read from the records again."""


def read_figures(store: Store, runs: Sequence[Run]) -> Iterator[tuple[Run, NightFigures]]:
    """The figures of each run, `AT_ONCE` runs at a time. What was read from records is kept, if the store can be written.

    One that is damaged, or has a damaged record, has the status DAMAGED and no figures.
    """
    made_by, keeping, seen = digest_code(), True, Seen()
    for start in range(0, len(runs), AT_ONCE):
        some = runs[start : start + AT_ONCE]
        kept = store.figures([run.run_id for run in some], made_by, seen)
        for run in some:
            night = take_all(run, []) if run.status == DAMAGED else kept.get(run.run_id)
            if night is None:
                touched_at = store.touched_at(run.run_id)
                try:
                    night = take_all(run, store.records(run.run_id))
                except Damaged:
                    yield replace(run, status=DAMAGED), take_all(run, [])
                    continue
                if keeping and run.status != "running":
                    try:
                        store.keep_figures(run.run_id, night, made_by=made_by, touched_at=touched_at)
                    except Unavailable:
                        keeping = False
            yield run, night


@cache
def digest_code() -> str:
    """Of the files of `CODE`."""
    root, found = Path(bench.__file__).parent, hashlib.sha256()
    for name in CODE:
        place = root / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(file.read_bytes())
    return found.hexdigest()


def take_all(run: Run, records: Iterable[Record]) -> NightFigures:
    """The figures of the records of a run."""
    return gather([take(run, record) for record in records])


def take(run: Run, record: Record) -> CellFigures:
    """The figures of one record."""
    return CellFigures(
        identity=identify(record),
        cell=record.key,
        digest=record.digest,
        samples=digest_samples(record),
        silence=explain_silence(record),
        environment=read_environment(run, record),
        figures=tuple(measure(record)),
    )


def identify(record: Record) -> Identity:
    """What the series of its cell share."""
    conditions = describe_conditions(record)
    return record.target, record.device, record.backend, record.model, record.recipe, record.data, conditions


def digest_samples(record: Record) -> str:
    """Of all raw samples: two nights never share it. "" without a launch."""
    raw = repr([(launch.samples_ns, launch.summary) for launch in record.launches])
    return hashlib.sha256(raw.encode()).hexdigest()[:16] if record.launches else ""


def measure(record: Record) -> Iterator[Figure]:
    """Each figure that a record can be believed for."""
    if record.status not in BELIEVED:
        return
    energy = energy_columns(record)
    score = record.quality.score if record.quality else None
    accuracy = record.quality.accuracy if record.quality else None
    figures: dict[str, tuple[str, object]] = {
        "latency": (f"ms, {record.clock.value} clock", find_p50_ms(record)),
        "memory": ("bytes", memory_columns(record).get("memory_peak_bytes")),
        "size": ("bytes", record.cost.file_bytes if record.cost else None),
        "energy": (f"mJ, {energy.get('energy_source')}", energy.get("energy_per_inference_mj")),
        SCORE: (f"{score.name} {score.unit}".strip() if score else "fraction", score.value if score else accuracy),
        "macs": ("MACs", record.cost.macs if record.cost and not record.cost.unknown else None),
        "instructions": ("instructions", record.simulation.instructions if record.simulation else None),
    }
    for metric, (unit, value) in figures.items():
        if isinstance(value, int | float):
            higher = (score.higher_is_better if score else True) if metric == SCORE else False
            yield Figure(metric=metric, unit=unit, value=float(value), higher=higher)


def name_record(record: Record) -> str:
    """The cell of a record, as its series name it."""
    return join_cell(record.target, record.backend, record.model, record.recipe, describe_conditions(record))


def describe_conditions(record: Record) -> str:
    """Batch and threads, whose clock where it is not the host's, and the board of a fleet: two boards are never one series."""
    clock = "" if record.clock is Clock.HOST else f" {record.clock.value}"
    named = record.conditions.device and record.clock is not Clock.SIMULATED
    board = f"{ON_BOARD}{record.conditions.device}" if named else ""
    return f"b{record.conditions.batch} t{record.conditions.threads}{clock}{board}"


def explain_silence(record: Record) -> str:
    """Why a cell may lack a figure that night."""
    said = "; ".join(record.reasons) or "; ".join(f"{name}: {why}" for name, why in record.missing.items())
    return f"{record.status.value}{f': {said}' if said else ''}"
