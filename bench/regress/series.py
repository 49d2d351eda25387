"""Runs and their figures -> series: one figure of one cell over the nights it was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.records import Run
from bench.store import CellFigures

COUNTED = {"size", "macs", "instructions"}
"""Metrics of which the same file always gives the same figure, so that any difference is a fact."""


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
    """The points in the order of their nights. `higher`: more is better. `counted`: as `COUNTED` says."""

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


@dataclass(slots=True)
class Cell:
    """One cell while a history is read. `first`: its first night. `samples`: digest of the raw samples -> the run that
    had them first. `points`: (metric, unit) -> its points; `higher`: of the same.
    """

    first: CellFigures
    name: str
    samples: dict[str, str] = field(default_factory=dict)
    points: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    higher: dict[tuple[str, str], bool] = field(default_factory=dict)


ON_BOARD = " on "
"""In the conditions of a series, before the board of a fleet."""


def read_history(nights: Iterable[tuple[Run, Iterable[CellFigures]]]) -> History:
    """Series of runs given by start. A night whose samples an earlier one has too is left out: it is the same night."""
    found, cells, texts = History(), dict[tuple[str, ...], Cell](), dict[str, str]()
    nights_of = Counter[tuple[str, str]]()
    for run, measured in nights:
        place = found.nights[run.run_id] = nights_of[name_nights(run)]
        nights_of[name_nights(run)] += 1
        found.runs.append(run)
        found.notes += note_run(run)
        surroundings: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        for one in measured:
            identity = identify(one)
            cell = cells.get(identity) or cells.setdefault(identity, Cell(first=one, name=name_cell(one)))
            earlier = cell.samples.setdefault(one.samples, run.run_id) if one.samples else run.run_id
            if earlier != run.run_id:
                found.notes.append(f"run {run.run_id}: {cell.name} has the very samples of run {earlier}: left out")
                continue
            environment = surroundings.setdefault(tuple(one.environment.items()), one.environment)
            found.notes += add_points(cell, one, run, place, environment, texts)
            found.silent[run.run_id, cell.name] = texts.setdefault(one.silence, one.silence)
    found.series = {series.key: series for cell in cells.values() for series in make_series(cell)}
    return found


def note_run(run: Run) -> list[str]:
    """What is odd about a run."""
    notes = []
    if run.finished_at and run.finished_at < run.started_at:
        notes.append(f"run {run.run_id}: the clock went back while it ran, from {run.started_at}")
    if run.status == "interrupted":
        notes.append(f"run {run.run_id} was interrupted: cells that it did not come to are not judged")
    return notes


def add_points(
    cell: Cell, one: CellFigures, run: Run, night: int, environment: Mapping[str, str], texts: dict[str, str]
) -> list[str]:
    """Adds the night of a cell to its series; notes on what was left out. `texts`: equal texts are kept once."""
    digest, key, notes = texts.setdefault(one.digest, one.digest), texts.setdefault(one.cell, one.cell), []
    for figure in one.figures:
        if not math.isfinite(figure.value) or figure.value <= 0:
            notes.append(f"run {run.run_id}: {cell.name}: {figure.metric} is {figure.value}: left out")
            continue
        name = (figure.metric, figure.unit)
        if name not in cell.points:
            cell.points[name] = []
        cell.higher[name] = figure.higher
        cell.points[name].append(
            Point(
                night=night,
                run_id=run.run_id,
                at=run.started_at,
                value=figure.value,
                digest=digest,
                cell=key,
                environment=environment,
            )
        )
    return notes


def make_series(cell: Cell) -> Iterator[Series]:
    """The series of a cell."""
    for (metric, unit), points in cell.points.items():
        higher = cell.higher[metric, unit]
        key = make_key(cell.first, metric, unit)
        yield Series(key=key, points=tuple(points), higher=higher, counted=metric in COUNTED)


def make_key(one: CellFigures, metric: str, unit: str) -> SeriesKey:
    """The series that a figure of a cell belongs to."""
    return SeriesKey(
        target=one.target,
        device=one.device,
        backend=one.backend,
        model=one.model,
        recipe=one.recipe,
        data=one.data,
        conditions=one.conditions,
        metric=metric,
        unit=unit,
    )


def identify(one: CellFigures) -> tuple[str, ...]:
    """What the series of a cell share."""
    return one.target, one.device, one.backend, one.model, one.recipe, one.data, one.conditions


def name_cell(one: CellFigures) -> str:
    """A cell by the words that its series share."""
    return join_cell(one.target, one.backend, one.model, one.recipe, one.conditions)


def join_cell(*parts: str) -> str:
    """The name of a cell from its target, backend, model, recipe and conditions."""
    return " / ".join(parts)


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
