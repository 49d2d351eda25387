"""Records beside their computed rows, grouped the way people compare them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.records import Record
from bench.report.table import Row, is_baseline, rows
from bench.stats import ratio
from bench.types import Status

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One record with its row of cells.csv. `verdict` is that of its paired comparison, "" without one."""

    record: Record
    row: Row
    verdict: str = ""

    def figure(self, column: str) -> float | None:
        """The number in a column; None where there is none."""
        value = self.row[column]
        return None if isinstance(value, str) else value

    @property
    def trusted(self) -> bool:
        """Whether its figures may stand in a claim."""
        return self.record.status is Status.OK

    @property
    def baseline(self) -> bool:
        """Whether the others of its model are compared with it."""
        return is_baseline(self.record)


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """One cell a record, in order."""
    return [
        Cell(record=record, row=row, verdict=verdict_of(record))
        for record, row in zip(records, rows(records), strict=True)
    ]


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
        (cell.record.recipe, cell.record.backend, f"batch {c.batch}", f"{c.threads} threads", c.device)
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
