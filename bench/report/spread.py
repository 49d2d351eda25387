"""How far boards of one SKU differ: the same file in the same conditions, timed on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from rich.table import Table

from bench.records import Record
from bench.report.text import interval, number, times
from bench.report.text_table import text_table
from bench.stats.latency import clean_medians
from bench.stats.ratio import Ratio, ratio_apart
from bench.types import Clock, Status

BELIEVED = {Status.OK, Status.INCONCLUSIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One board. `ratio`: its time over that of the first board, with its 95 % interval; None for the first."""

    board: str
    p50_ms: float
    ratio: Ratio | None = None

    @property
    def p50(self) -> str:
        """Milliseconds as text."""
        return number(self.p50_ms)

    @property
    def verdict(self) -> str:
        """As `decide_verdict` says of it; "" for the first board."""
        return "" if self.ratio is None else self.ratio.verdict

    @property
    def words(self) -> str:
        """The ratio and its interval as text."""
        if self.ratio is None:
            return "reference"
        within = interval(self.ratio.low, self.ratio.high)
        return f"{times(self.ratio.ratio)}{f' ({within})' if within else ', too few launches for an interval'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One file on the boards of a run, by their names; the first is the reference."""

    name: str
    units: tuple[Unit, ...]


def find_spreads(records: Sequence[Record]) -> list[Spread]:
    """The spread of every file that several boards of one run timed by the same clock, and whose figures may be believed."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.conditions.device and record.status in BELIEVED and record.clock is not Clock.SIMULATED:
            alike = replace(record.conditions, device="")
            same = (record.run_id, record.digest, record.model, record.recipe, record.backend, record.clock, alike)
            groups.setdefault(same, []).append(record)
    found = []
    for group in groups.values():
        timed = [(record, medians) for record in group if (medians := clean_medians(record.launches, record.clock))]
        timed.sort(key=lambda one: one[0].conditions.device)
        if len(timed) > 1:
            found.append(make_spread(timed))
    return found


def make_spread(timed: Sequence[tuple[Record, Sequence[float]]]) -> Spread:
    """Each board against the first."""
    first, reference = timed[0]
    effect = max(record.smallest_effect for record, _ in timed)
    units = [
        Unit(
            board=record.conditions.device,
            p50_ms=median(medians) / 1e6,
            ratio=None if record is first else ratio_apart(reference, medians, effect),
        )
        for record, medians in timed
    ]
    conditions = f"batch {first.conditions.batch}, threads {first.conditions.threads}"
    return Spread(name=f"{first.model} / {first.recipe} on {first.backend}, {conditions}", units=tuple(units))


def draw_spreads(spreads: Sequence[Spread]) -> Table:
    """A table for the terminal: a row for each board of each file."""
    rows = [
        (spread.name if unit is spread.units[0] else "", unit.board, f"{unit.p50} ms", unit.words, unit.verdict)
        for spread in spreads
        for unit in spread.units
    ]
    return text_table(("the same file", "board", "p50", "time over the first board's (95 %)", ""), rows)
