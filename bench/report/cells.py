"""Records beside their computed rows, grouped the way people compare them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.records import Record
from bench.report.table import Row, compute_rows, explain_sustained, explain_tails, is_baseline, other_accuracies
from bench.stats import decide_verdict
from bench.types import Clock, Conditions, Status

Key = TypeVar("Key", bound=Hashable)


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
    def lost_pp(self) -> float | None:
        """Percentage points of accuracy lost to the baseline, or of another score in fractions; per cent of the
        baseline's score in any other unit. Positive is worse; None without a score."""
        drop, value = self.figure("score_drop"), self.figure("score")
        score = self.record.quality.score if self.record.quality else None
        if drop is None or value is None:
            return None
        if score is None or score.unit == "fraction":
            return 100 * drop
        before = value + drop if score.higher_is_better else value - drop
        return 100 * drop / abs(before) if before else 0.0 if not drop else float("inf") * drop

    @property
    def drop_shows(self) -> bool:
        """Whether the test samples can show its drop: the interval leaves 0 out, or there is none."""
        low, high = self.figure("score_drop_low"), self.figure("score_drop_high")
        return low is None or high is None or not low <= 0 <= high

    @property
    def trusted(self) -> bool:
        """Whether its figures may stand in a claim."""
        return self.record.status is Status.OK

    @property
    def baseline(self) -> bool:
        """Whether the other cells of its model are compared with it."""
        return is_baseline(self.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class League:
    """What cells must share before their latencies are ranked."""

    model: str
    data: str
    target: str
    clock: Clock
    conditions: Conditions


def make_cells(records: Sequence[Record]) -> list[Cell]:
    """One cell per record, in order."""
    return [
        Cell(
            record=record,
            row=row,
            verdict=str(row["speedup_verdict"] or ""),
            more=other_accuracies(record),
            missing={**explain_tails(record, row), **explain_sustained(record), **record.missing},
        )
        for record, row in zip(records, compute_rows(records), strict=True)
    ]


def league_of(cell: Cell) -> League:
    """Where a cell's latency may be ranked."""
    record = cell.record
    return League(
        model=record.model,
        data=record.data,
        target=record.target,
        clock=record.clock,
        conditions=record.conditions,
    )


def is_faster(one: Cell, other: Cell) -> bool:
    """Whether the intervals show `one` to be faster by the larger smallest effect; False where either has none."""
    ends = [cell.figure(f"latency_p50_{end}_ms") for cell in (one, other) for end in ("low", "high")]
    low, high, others_low, others_high = ends
    if low is None or high is None or not others_low or not others_high:
        return False
    return decide_verdict(low / others_high, high / others_low, smallest_effect_of((one, other))) == "faster"


def smallest_effect_of(cells: Sequence[Cell]) -> float:
    """The largest of their smallest effects: what any claim over all of them must exceed."""
    return max(cell.record.smallest_effect for cell in cells)


def keep_latest(cells: Sequence[Cell]) -> list[Cell]:
    """The last cell of each target, backend, model, data set, recipe and conditions, in the order they first came."""
    found: dict[Hashable, Cell] = {}
    for cell in cells:
        record = cell.record
        place = (record.target, record.device, record.backend)
        found[place, record.model, record.data, record.recipe, record.conditions] = cell
    return list(found.values())


def group(cells: Sequence[Cell], key: Callable[[Cell], Key]) -> dict[Key, list[Cell]]:
    """Cells by key; keys and cells keep their order."""
    found: dict[Key, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


def find_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of points (cost, gain): indices, by cost. No other point costs as little and gains as much."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
