"""Promised against delivered: for each model a row per recipe on one scale, with the cause in a sentence beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

from bench.cost.roofline import Promise, explain_shortfall, promise_of, read_roofline
from bench.records import Record
from bench.report.cells import Cell, group, league_of
from bench.report.names import make_league_namer
from bench.report.text import interval, number, times

KEPT_SHARE = 0.9
"""A recipe that delivers so large a part of its promise has kept it."""
TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
ROOM = 1.25
"""Factor of empty scale beyond the outermost points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recipe. Places are per cent of the scale, None where there is no such figure; texts carry their units.

    `bits`: the promised bit operations of a quantized file. `span`: left end and width of the line between the points.
    """

    cell: Cell
    promised: float | None
    promised_text: str
    bits: float | None
    bits_text: str
    delivered: float | None
    delivered_text: str
    within: str
    whisker: tuple[float, float] | None
    span: tuple[float, float] | None
    sizes: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The rows of one model on one backend. `ticks`: (place in per cent, text); `one`: where the baseline stands."""

    model: str
    where: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    one: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A logarithmic scale between two factors."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a factor stands, in per cent, held within the scale."""
        share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return 100 * min(1.0, max(0.0, share))


def chart_promises(cells: Sequence[Cell], baselines: Mapping[tuple[str, str], Record]) -> list[Chart]:
    """One chart per model, place and backend: a speed-up is over the baseline of its own backend."""
    shown = [
        cell for cell in cells if not cell.baseline and (cell.figure("speedup") or cell.figure("promised_speedup"))
    ]
    name_league = make_league_namer(cells)
    return [
        make_chart(members, baselines, model=at.model, where=f"{backend} {name_league(at)}")
        for (at, backend), members in group(shown, lambda cell: (league_of(cell), cell.record.backend)).items()
    ]


def make_chart(cells: Sequence[Cell], baselines: Mapping[tuple[str, str], Record], *, model: str, where: str) -> Chart:
    """The rows of these cells on one scale, the fastest first."""
    found = [(cell, baselines.get((cell.record.run_id, cell.record.baseline_key))) for cell in cells]
    promises = [promise_of(cell.record, baseline) for cell, baseline in found]
    values = [value for cell, promise in zip(cells, promises, strict=True) for value in factors(cell, promise)]
    scale = Scale(low=min(1.0, *values) / ROOM, high=max(1.0, *values) * ROOM) if values else Scale(low=0.8, high=1.25)
    rows = [make_row(cell, baseline, promise, scale) for (cell, baseline), promise in zip(found, promises, strict=True)]
    ticks = [(scale.place(tick), f"{tick:g}×") for tick in TICKS if scale.low <= tick <= scale.high]
    rows.sort(key=lambda row: -(row.cell.figure("speedup") or 0.0))
    return Chart(model=model, where=where, rows=rows, ticks=ticks, one=scale.place(1.0))


def factors(cell: Cell, promise: Promise) -> list[float]:
    """Every factor that its row shows."""
    names = ("speedup", "speedup_low", "speedup_high")
    return [
        value for value in (*map(cell.figure, names), promise_shown(cell, promise), promise.bit_operations) if value
    ]


def promise_shown(cell: Cell, promise: Promise) -> float | None:
    """The promised speed-up by MACs; None for a quantized file that keeps its MACs: it promises other things."""
    value = promise.macs or cell.figure("promised_speedup")
    return None if promise.bit_operations and value and abs(value - 1) < 0.05 else value


def make_row(cell: Cell, baseline: Record | None, promise: Promise, scale: Scale) -> Row:
    """One recipe on this scale."""
    promised, bits, delivered = promise_shown(cell, promise), promise.bit_operations, cell.figure("speedup")
    low, high = cell.figure("speedup_low"), cell.figure("speedup_high")
    ends = [scale.place(value) for value in (promised, bits, delivered) if value]
    return Row(
        cell=cell,
        promised=scale.place(promised) if promised else None,
        promised_text=f"promised {times(promised)}" if promised else "",
        bits=scale.place(bits) if bits else None,
        bits_text=f"{number(bits, floor_digits(bits))}× fewer bit operations" if bits else "",
        delivered=scale.place(delivered) if delivered else None,
        delivered_text=f"delivered {times(delivered)}" if delivered else "not compared with its baseline",
        within=interval(low, high),
        whisker=(scale.place(low), scale.place(high)) if low and high else None,
        span=(min(ends), max(ends)) if len(ends) > 1 else None,
        sizes=describe_sizes(cell, promise),
        cause=state_cause(cell, baseline, promise),
    )


def floor_digits(value: float) -> int:
    """Digits that write a factor without decimals from 10 on."""
    return 2 if value < 10 else 1 + floor(log10(value))


def describe_sizes(cell: Cell, promise: Promise) -> str:
    """What the narrower weights promise of the file's size, and what came of it; "" for a file of the same bits."""
    smaller = cell.figure("compression_ratio")
    if promise.weights is None or smaller is None:
        return ""
    return f"size: promised {times(promise.weights)}, delivered {times(smaller)} smaller"


def state_cause(cell: Cell, baseline: Record | None, promise: Promise) -> str:
    """Why it delivered what it did, in one sentence."""
    record = cell.record
    if not cell.trusted:
        return f"{record.status.value}: {'; '.join(record.reasons) or 'no reason was given'}"
    delivered, promised = cell.figure("speedup"), promise.bit_operations or promise_shown(cell, promise)
    if delivered and promised and delivered >= KEPT_SHARE * promised:
        return "keeps its promise" if delivered <= promised else "delivers more than it promised"
    p50 = cell.figure("latency_p50_ms")
    found = explain_shortfall(record, baseline, read_roofline(record.facts), p50 and p50 / 1e3)
    return found or explain_nothing(record, baseline)


def explain_nothing(record: Record, baseline: Record | None) -> str:
    """Which facts are missing."""
    if baseline is None:
        return "its baseline was not measured in this run"
    lacking = "it" if not record.profile else "its baseline" if not baseline.profile else ""
    return f"no cause is recorded: {lacking} has no per-layer times" if lacking else "no cause is recorded"


def find_baselines(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """(run, key) -> the baseline's record."""
    return {(one.run_id, one.key): one for one in records if one.key == one.baseline_key}
