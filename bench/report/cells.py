"""Records beside their computed rows, grouped the way people compare them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.records import Record
from bench.report.table import Row, elsewhere, is_baseline, rows, unsupported
from bench.stats import ratio
from bench.types import Clock, Conditions, Status

Key = TypeVar("Key", bound=Hashable)
CLOCKS = {
    Clock.HOST: "measured",
    Clock.DEVICE: "measured by the device's own clock",
    Clock.SIMULATED: "simulated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One record with its row of cells.csv. `verdict` is that of its paired comparison, "" without one.

    `more`: figures beside those of cells.csv, the accuracies on other data sets. `missing`: column -> why it is
    empty, as the record says and as the samples do.
    """

    record: Record
    row: Row
    verdict: str = ""
    more: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def figure(self, column: str) -> float | None:
        """The number in a column, or in one of `more`; None where there is none."""
        value = self.row.get(column, self.more.get(column))
        return None if isinstance(value, str) else value

    @property
    def trusted(self) -> bool:
        """Whether its figures may stand in a claim."""
        return self.record.status is Status.OK

    @property
    def baseline(self) -> bool:
        """Whether the others of its model are compared with it."""
        return is_baseline(self.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class League:
    """What cells must share before their latencies are ranked."""

    model: str
    data: str
    target: str
    clock: Clock
    conditions: Conditions


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """One cell a record, in order."""
    return [
        Cell(
            record=record,
            row=row,
            verdict=verdict_of(record),
            more=elsewhere(record),
            missing={**unsupported(record, row), **record.missing},
        )
        for record, row in zip(records, rows(records), strict=True)
    ]


def league(cell: Cell) -> League:
    """Where a cell's latency may be ranked."""
    record = cell.record
    return League(
        model=record.model,
        data=record.data,
        target=record.target,
        clock=record.clock,
        conditions=record.conditions,
    )


def circumstances(cells: Sequence[Cell]) -> Callable[[League], str]:
    """Names a league by its target and clock, and by its conditions where these cells have several."""
    told = conditions_told(cells)
    return lambda of: ", ".join((f"on {of.target}", CLOCKS[of.clock], *told(of.conditions)))


def conditions_told(cells: Sequence[Cell]) -> Callable[[Conditions], tuple[str, ...]]:
    """Conditions in words; none where these cells all have the same."""
    if len({cell.record.conditions for cell in cells}) < 2:
        return lambda _: ()
    return lambda of: tuple(part for part in (*conditioned(of), of.device) if part)


def conditioned(conditions: Conditions) -> tuple[str, str]:
    """Batch and threads in words."""
    return f"batch {conditions.batch}", f"{conditions.threads} thread{'' if conditions.threads == 1 else 's'}"


def apart(faster: Cell, slower: Cell) -> bool:
    """Whether the intervals show one to be faster than the other; not where either has none."""
    high, low = faster.figure("latency_p50_high_ms"), slower.figure("latency_p50_low_ms")
    return high is not None and low is not None and high < low


def verdict_of(record: Record) -> str:
    """The verdict of the record's pairs."""
    return ratio(record.pairs).verdict if any(pair.blocks_ns for pair in record.pairs) else ""


def latest(cells: Sequence[Cell]) -> list[Cell]:
    """The last cell of each target, backend, model, data set, recipe and conditions, in the order they first came."""
    found: dict[Hashable, Cell] = {}
    for cell in cells:
        record = cell.record
        place = (record.target, record.device, record.backend)
        found[place, record.model, record.data, record.recipe, record.conditions] = cell
    return list(found.values())


def grouped(cells: Sequence[Cell], key: Callable[[Cell], Key]) -> dict[Key, list[Cell]]:
    """Cells by key, both in the order they came."""
    found: dict[Key, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


def labels(cells: Sequence[Cell]) -> Mapping[int, str]:
    """Index of a cell -> its recipe, with backend, batch and threads where the cells differ in them."""
    parts = [
        (cell.record.recipe, cell.record.backend, *conditioned(c), c.device)
        for cell in cells
        for c in (cell.record.conditions,)
    ]
    differ = [position for position in range(1, 5) if len({part[position] for part in parts}) > 1]
    return {index: " · ".join((part[0], *(part[p] for p in differ))) for index, part in enumerate(parts)}


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) that no other beats in one without losing in the other, by cost."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
