"""Runs and their figures -> the history of a store: every series, in columns that the series of a cell share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bench.records import Run
from bench.regress.points import Points
from bench.regress.series import COUNTED, SCORE, Series, SeriesKey, join_cell, name_nights
from bench.store import DAMAGED, Identity, Layout, NightFigures, State


@dataclass(slots=True, kw_only=True)
class History:
    """What `read_history` collects. `nights`: run -> its place among the runs of its target and suite.

    `notes`: what was left out, and why. `said`: run -> what it says of each of its cells, by name. `odd`: run, cell and metric ->
    a value that was left out.
    """

    runs: list[Run] = field(default_factory=list)
    nights: dict[str, int] = field(default_factory=dict)
    series: dict[SeriesKey, Series] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    said: dict[str, tuple[Mapping[str, int], Sequence[str]]] = field(default_factory=dict)
    twice: set[tuple[str, str]] = field(default_factory=set)
    odd: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def explain_silence(self, run_id: str, cell: str, metric: str = "") -> str | None:
        """Why a cell may lack a figure that night; None where the run has no such cell."""
        if (run_id, cell, metric) in self.odd:
            return f"its {metric} is {self.odd[run_id, cell, metric]:g}, which has no ratio to the nights before"
        places, silences = self.said.get(run_id, ({}, ()))
        return silences[places[cell]] if cell in places and (run_id, cell) not in self.twice else None


@dataclass(slots=True, kw_only=True)
class Block:
    """Nights of one layout: a row each. `names`: of its cells; `runs`: places of the nights in `History.runs`."""

    layout: Layout
    names: tuple[str, ...]
    places: Mapping[str, int]
    runs: list[int] = field(default_factory=list)
    samples: list[tuple[str, ...]] = field(default_factory=list)
    digests: list[tuple[str, ...]] = field(default_factory=list)
    environments: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(slots=True)
class Blocks:
    """A history while it is read. Nights mostly share their layout and state, which are looked at once.

    `environments`: the distinct ones. `kept`: what holds the objects whose identities are keys.
    """

    blocks: dict[Layout, Block] = field(default_factory=dict)
    of_layout: dict[int, Block] = field(default_factory=dict)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    places: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    of_state: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    kept: list[object] = field(default_factory=list)

    def add(self, run: int, night: NightFigures) -> Block:
        """Adds a night to the block of its layout."""
        block = self.of_layout.get(id(night.layout)) or self._find_block(night.layout)
        environments = self.of_state.get(id(night.state))
        block.runs.append(run)
        block.samples.append(night.measured.samples)
        block.digests.append(night.state.digests)
        block.environments.append(self._place(night.state) if environments is None else environments)
        block.values.append(np.array(night.measured.values, np.float64))
        return block

    def _find_block(self, layout: Layout) -> Block:
        if layout not in self.blocks:
            names = tuple(join_cell(*(one[0], *one[2:5], one[6])) for one in layout.identities)
            places = {name: place for place, name in enumerate(names)}
            self.blocks[layout] = Block(layout=layout, names=names, places=places)
        self.kept.append(layout)
        self.of_layout[id(layout)] = self.blocks[layout]
        return self.blocks[layout]

    def _place(self, state: State) -> NDArray[np.int64]:
        own = []
        for one in state.environments:
            own.append(self.places.setdefault(tuple(one.items()), len(self.environments)))
            if own[-1] == len(self.environments):
                self.environments.append(one)
        self.kept.append(state)
        self.of_state[id(state)] = np.array([own[place] for place in state.places], np.int64)
        return self.of_state[id(state)]


def read_history(nights: Iterable[tuple[Run, NightFigures]]) -> History:
    """Series of runs given by start. A night whose samples an earlier one has too is left out: it is the same night."""
    found, blocks, notes = History(), Blocks(), list[Note]()
    nights_of = Counter[tuple[str, str]]()
    for run, night in nights:
        found.nights[run.run_id] = nights_of[name_nights(run)]
        nights_of[name_nights(run)] += 1
        notes += [(len(found.runs), note) for note in note_run(run)]
        block = blocks.add(len(found.runs), night)
        found.said[run.run_id] = block.places, night.state.silences
        found.runs.append(run)
    for cell in collect_cells(list(blocks.blocks.values()), blocks.environments, found):
        points = leave_out_twice(cell, found, notes)
        for series in make_series(cell, points, found, notes):
            found.series[series.key] = series
    found.notes = [note for _, note in sorted(notes, key=lambda note: note[0])]
    return found


def note_run(run: Run) -> list[str]:
    """What is odd about a run."""
    notes = []
    if run.finished_at and run.finished_at < run.started_at:
        notes.append(f"run {run.run_id}: the clock went back while it ran, from {run.started_at}")
    if run.status == DAMAGED:
        notes.append(f"run {run.run_id} is damaged in the store: left out")
    if run.status == "interrupted":
        notes.append(f"run {run.run_id} was interrupted: cells that it did not come to are not judged")
    return notes


Values = tuple[NDArray[np.float64], NDArray[np.bool_], bool]
"""Of one figure: its values, which nights have one, and whether more is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell over all its nights, in their order: `points` without values, `runs` their places in `History.runs`.

    `figures`: by metric and unit.
    """

    identity: Identity
    name: str
    runs: NDArray[np.int64]
    samples: list[str]
    points: Points
    figures: Mapping[tuple[str, str], Values]


def collect_cells(blocks: Sequence[Block], environments: Sequence[Mapping[str, str]], found: History) -> Iterator[Cell]:
    """Every cell of the blocks, by first appearance."""
    parts: dict[Identity, list[Part]] = {}
    for table in map(Table, blocks):
        for place, identity in enumerate(table.layout.identities):
            parts.setdefault(identity, []).append((table, place))
    ids = np.array([run.run_id for run in found.runs], object)
    starts = np.array([run.started_at for run in found.runs], object)
    nights = np.array([found.nights[run.run_id] for run in found.runs], np.int64)
    for identity, own in parts.items():
        runs = np.concatenate([table.runs for table, _ in own])
        order = np.argsort(runs, kind="stable")
        runs = runs[order]
        table, place = own[0]
        yield Cell(
            identity=identity,
            name=table.names[place],
            runs=runs,
            samples=np.concatenate([table.samples[:, place] for table, place in own])[order].tolist(),
            points=Points(
                nights=nights[runs],
                run_ids=ids[runs],
                at=starts[runs],
                values=np.zeros(len(runs)),
                digests=np.concatenate([table.digests[:, place] for table, place in own])[order],
                cells=np.concatenate([np.full(len(table.runs), table.layout.keys[at], object) for table, at in own])[
                    order
                ],
                environments=np.concatenate([table.environments[:, place] for table, place in own])[order],
                surroundings=environments,
            ),
            figures={name: join_figure(own, name, order) for name in name_figures(own)},
        )


class Table:
    """The nights of a block as arrays: a row each, a column for each cell or figure."""

    def __init__(self, block: Block) -> None:
        self.layout, self.names = block.layout, block.names
        self.runs = np.array(block.runs, np.int64)
        self.samples, self.digests = np.array(block.samples, object), np.array(block.digests, object)
        self.environments, self.values = np.array(block.environments), np.array(block.values)
        self.figures: list[dict[tuple[str, str], tuple[int, bool]]] = [{} for _ in block.layout.identities]
        for column, (place, metric, unit, higher) in enumerate(block.layout.figures):
            self.figures[place][metric, unit] = column, higher


Part = tuple[Table, int]
"""Nights of a cell: a table, and the cell's place in it."""
Note = tuple[int, str]
"""A place in `History.runs`, and what was left out of that run."""


def name_figures(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Metric and unit of all figures of a cell, by first appearance."""
    return list(dict.fromkeys(name for table, place in parts for name in table.figures[place]))


def join_figure(parts: Sequence[Part], name: tuple[str, str], order: NDArray[np.int64]) -> Values:
    """As `Cell.figures` has it."""
    values, given, higher = list[NDArray[np.float64]](), list[NDArray[np.bool_]](), False
    for table, place in parts:
        column, more = table.figures[place].get(name, (None, None))
        values.append(np.zeros(len(table.runs)) if column is None else table.values[:, column])
        given.append(np.full(len(table.runs), column is not None))
        higher = higher if more is None else more
    return np.concatenate(values)[order], np.concatenate(given)[order], higher


def leave_out_twice(cell: Cell, found: History, notes: list[Note]) -> NDArray[np.bool_]:
    """Which nights of a cell count: those whose raw samples no earlier one has."""
    first: dict[str, int] = {}
    kept = np.ones(len(cell.runs), np.bool_)
    for place, samples in enumerate(cell.samples):
        earlier = first.setdefault(samples, place) if samples else place
        if cell.runs[earlier] != cell.runs[place]:
            run_id, before = (found.runs[cell.runs[one]].run_id for one in (place, earlier))
            notes.append(
                (int(cell.runs[place]), f"run {run_id}: {cell.name} has the very samples of run {before}: left out")
            )
            found.twice.add((run_id, cell.name))
            kept[place] = False
    return kept


def without_sign(name: tuple[str, str], figure: Values, kept: NDArray[np.bool_]) -> tuple[tuple[str, str], Values]:
    """A figure as it is; a score that is below zero on every night, as a negated error, without its sign."""
    values, given, higher = figure
    finite = values[given & kept & np.isfinite(values)]
    if name[0] != SCORE or not len(finite) or (finite >= 0).any():
        return name, figure
    return (SCORE, f"minus {name[1]}"), (-values, given, not higher)


def make_series(cell: Cell, kept: NDArray[np.bool_], found: History, notes: list[Note]) -> Iterator[Series]:
    """The series of a cell. A value that is zero, negative or not a number is left out and noted."""
    for name, figure in cell.figures.items():
        (metric, unit), (values, given, higher) = without_sign(name, figure, kept)
        sound = np.isfinite(values) & (values > 0)
        for place in np.flatnonzero(given & kept & ~sound):
            run, value = found.runs[cell.runs[place]], float(values[place])
            found.odd[run.run_id, cell.name, metric] = value
            notes.append((int(cell.runs[place]), f"run {run.run_id}: {cell.name}: {metric} is {value}: left out"))
        counts = given & kept & sound
        points = replace(cell.points, values=values)
        points = points if counts.all() else points.take(counts)
        if len(points):
            key = make_key(cell.identity, metric, unit)
            yield Series(key=key, points=points, higher=higher, counted=metric in COUNTED)


def make_key(identity: Identity, metric: str, unit: str) -> SeriesKey:
    """The series that a figure of a cell belongs to."""
    target, device, backend, model, recipe, data, conditions = identity
    return SeriesKey(
        target=target,
        device=device,
        backend=backend,
        model=model,
        recipe=recipe,
        data=data,
        conditions=conditions,
        metric=metric,
        unit=unit,
    )
