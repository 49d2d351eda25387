"""Runs and records -> series: one figure of one cell over the nights it was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.records import Record, Run
from bench.regress.environment import read_environment
from bench.report.table import energy_columns, latency_columns, memory_columns
from bench.types import Clock, Status

BELIEVED = {Status.OK, Status.INCONCLUSIVE}
"""Statuses whose figures stand in a history: an untrusted figure would be a change that never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """`counted`: the same file always gives the same figure, so any difference is a fact. `higher`: more is better."""

    name: str
    unit: str
    counted: bool = False
    higher: bool = False


METRICS = (
    Metric(name="latency", unit="ms"),
    Metric(name="memory", unit="bytes"),
    Metric(name="size", unit="bytes", counted=True),
    Metric(name="energy", unit="mJ"),
    Metric(name="accuracy", unit="fraction", higher=True),
    Metric(name="macs", unit="MACs", counted=True),
    Metric(name="instructions", unit="instructions", counted=True),
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SeriesKey:
    """What must be equal for figures to be one series. `unit`: of another unit, clock or meter is another series."""

    target: str
    device: str
    backend: str
    model: str
    recipe: str
    data: str
    conditions: str
    metric: str
    unit: str

    @property
    def cell(self) -> str:
        """As `name_cell` names the cell."""
        return join_cell(self.target, self.backend, self.model, self.recipe, self.conditions)

    @property
    def text(self) -> str:
        """All of it on one line, for people and for the store."""
        parts = (self.target, self.device, self.backend, self.model, self.recipe, self.data, self.conditions)
        return " / ".join((*(part for part in parts if part), f"{self.metric} ({self.unit})"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One night of a series. `night`: as `History.nights` numbers it. `digest`: of the deployed file; `cell`: its key."""

    night: int
    run_id: str
    at: str
    value: float
    digest: str = ""
    cell: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The points in the order of their nights. `higher`, `counted`: as of its `Metric`."""

    key: SeriesKey
    points: tuple[Point, ...]
    higher: bool = False
    counted: bool = False


@dataclass(slots=True, kw_only=True)
class History:
    """What `read_history` collects. `silent`: (run, cell) -> why the cell may lack a figure that night.

    `nights`: run -> its place among the runs of its target and suite. `notes`: what was left out, and why.
    """

    runs: list[Run] = field(default_factory=list)
    nights: dict[str, int] = field(default_factory=dict)
    series: dict[SeriesKey, Series] = field(default_factory=dict)
    silent: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_history(nights: Iterable[tuple[Run, Iterable[Record]]]) -> History:
    """Series of runs given by start. A night whose samples an earlier one has too is left out: it is the same night."""
    found, seen, points = History(), dict[tuple[str, int], str](), dict[SeriesKey, list[Point]]()
    kinds: dict[SeriesKey, tuple[bool, bool]] = {}
    nights_of = Counter[tuple[str, str]]()
    for run, records in nights:
        place = found.nights[run.run_id] = nights_of[name_nights(run)]
        nights_of[name_nights(run)] += 1
        found.runs.append(run)
        if run.finished_at and run.finished_at < run.started_at:
            found.notes.append(f"run {run.run_id}: the clock went back while it ran, from {run.started_at}")
        if run.status == "interrupted":
            found.notes.append(f"run {run.run_id} was interrupted: cells that it did not come to are not judged")
        for record in records:
            name = name_cell(record)
            earlier = seen.setdefault((name, samples_of(record)), run.run_id) if record.launches else run.run_id
            if earlier != run.run_id:
                found.notes.append(f"run {run.run_id}: {name} has the very samples of run {earlier}: left out")
                continue
            for metric, unit, higher, value in measure(record):
                if not math.isfinite(value) or value <= 0:
                    found.notes.append(f"run {run.run_id}: {name}: {metric.name} is {value}: left out")
                    continue
                key = make_key(record, metric, unit)
                points.setdefault(key, []).append(make_point(run, record, place, value))
                kinds[key] = (higher, metric.counted)
            found.silent[run.run_id, name] = explain_silence(record)
    for key, (higher, counted) in kinds.items():
        found.series[key] = Series(key=key, points=tuple(points[key]), higher=higher, counted=counted)
    return found


def name_nights(run: Run) -> tuple[str, str]:
    """What the nights of a run are counted by: two targets that run every night have 14 nights in 28 runs."""
    return run.target, run.suite


def pick_newest(runs: Sequence[Run], most: int) -> list[Run]:
    """The newest `most` nights of each target and suite, in the order given."""
    seen, kept = Counter[tuple[str, str]](), list[Run]()
    for run in reversed(runs):
        seen[name_nights(run)] += 1
        if seen[name_nights(run)] <= most:
            kept.append(run)
    return kept[::-1]


def samples_of(record: Record) -> int:
    """A hash of all raw samples: two nights never share it."""
    return hash(tuple((launch.samples_ns, launch.summary) for launch in record.launches))


def measure(record: Record) -> Iterable[tuple[Metric, str, bool, float]]:
    """Each figure that a record can be believed for: its metric, unit, whether more is better, and value."""
    if record.status not in BELIEVED:
        return
    energy = energy_columns(record)
    score = record.quality.score if record.quality else None
    accuracy = record.quality.accuracy if record.quality else None
    figures: dict[str, tuple[str, object]] = {
        "latency": (f"ms, {record.clock.value} clock", latency_columns(record).get("latency_p50_ms")),
        "memory": ("bytes", memory_columns(record).get("memory_peak_bytes")),
        "size": ("bytes", record.cost.file_bytes if record.cost else None),
        "energy": (f"mJ, {energy.get('energy_source')}", energy.get("energy_per_inference_mj")),
        "accuracy": (f"{score.name} {score.unit}".strip() if score else "fraction", score.value if score else accuracy),
        "macs": ("MACs", record.cost.macs if record.cost and not record.cost.unknown else None),
        "instructions": ("instructions", record.simulation.instructions if record.simulation else None),
    }
    for metric in METRICS:
        unit, value = figures[metric.name]
        if isinstance(value, int | float):
            higher = score.higher_is_better if metric.name == "accuracy" and score else metric.higher
            yield metric, unit, higher, float(value)


def make_key(record: Record, metric: Metric, unit: str) -> SeriesKey:
    """The series that a figure of a record belongs to."""
    return SeriesKey(
        target=record.target,
        device=record.device,
        backend=record.backend,
        model=record.model,
        recipe=record.recipe,
        data=record.data,
        conditions=describe_conditions(record),
        metric=metric.name,
        unit=unit,
    )


def make_point(run: Run, record: Record, night: int, value: float) -> Point:
    """One figure with what else may explain it."""
    return Point(
        night=night,
        run_id=run.run_id,
        at=run.started_at,
        value=value,
        digest=record.digest,
        cell=record.key,
        environment=read_environment(run, record),
    )


def name_cell(record: Record) -> str:
    """A cell by the words that its series share."""
    return join_cell(record.target, record.backend, record.model, record.recipe, describe_conditions(record))


def join_cell(*parts: str) -> str:
    """The name of a cell from its target, backend, model, recipe and conditions."""
    return " / ".join(parts)


def describe_conditions(record: Record) -> str:
    """Batch and threads, and whose clock where it is not the host's."""
    clock = "" if record.clock is Clock.HOST else f" {record.clock.value}"
    return f"b{record.conditions.batch} t{record.conditions.threads}{clock}"


def explain_silence(record: Record) -> str:
    """Why a cell may lack a figure that night."""
    said = "; ".join(record.reasons) or "; ".join(f"{name}: {why}" for name, why in record.missing.items())
    return f"{record.status.value}{f': {said}' if said else ''}"
