"""The headlines: for each model the fastest, the smallest and the widest gap between promise and delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.cells import Cell, apart, circumstances, grouped, league
from bench.report.text import interval, number, signed, size, times

SHOWN_PP = 0.005
"""A smaller change of accuracy would be written as a signed zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One headline: what it is about, its figure, the cell it is of, and what else to know."""

    what: str
    figure: str
    who: str
    more: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The headlines of one model in one place."""

    model: str
    where: str
    lines: tuple[Line, ...]


def headlines(cells: Sequence[Cell]) -> list[Card]:
    """One card a league, of trusted cells alone."""
    told = circumstances(cells)
    found = []
    for at, group in grouped([cell for cell in cells if cell.trusted], league).items():
        lines = [line for line in (fastest(group), smallest(group), gap(group)) if line]
        if lines:
            found.append(Card(model=at.model, where=told(at), lines=tuple(lines)))
    return found


def fastest(cells: Sequence[Cell]) -> Line | None:
    """The lowest median latency, whatever backend it is on: each speed-up has a baseline of its own to beat."""
    timed = sorted((c for c in cells if c.figure("latency_p50_ms")), key=lambda c: c.figure("latency_p50_ms") or 0.0)
    if len(timed) < 2:
        return None
    best, *others = timed
    within = interval(best.figure("latency_p50_low_ms"), best.figure("latency_p50_high_ms"))
    speedup = best.figure("speedup")
    return Line(
        what="fastest",
        figure=f"{number(best.figure('latency_p50_ms'))} ms",
        who=place(best),
        more=joined(
            (
                f"95 %: {within}" if within else "",
                "" if best.baseline or speedup is None else f"{times(speedup)} its baseline's speed",
                drop(best),
                overlapping(best, others),
            )
        ),
    )


def overlapping(best: Cell, others: Sequence[Cell]) -> str:
    """Which cells the fastest is not shown to be faster than; its baseline is left to their interleaved pairs."""
    paired = best.record.baseline_key if best.verdict == "faster" else ""
    level = [place(cell) for cell in others if cell.record.key != paired and not apart(best, cell)]
    if not level:
        return ""
    return f"not told apart from {level[0]}{f' and {len(level) - 1} more' if len(level) > 1 else ''}"


def smallest(cells: Sequence[Cell]) -> Line | None:
    """The smallest file, whatever backend it is for."""
    sized = [cell for cell in cells if cell.figure("file_bytes")]
    if len(sized) < 2:
        return None
    best = min(sized, key=lambda cell: cell.figure("file_bytes") or 0.0)
    factor = best.figure("compression_ratio")
    return Line(
        what="smallest",
        figure=size(best.figure("file_bytes")),
        who=place(best),
        more=joined(
            ("" if best.baseline or factor is None else f"{times(factor)} smaller than its baseline", drop(best))
        ),
    )


def gap(cells: Sequence[Cell]) -> Line | None:
    """The cell that delivered least of what it promised."""
    timed = [c for c in cells if c.figure("speedup") and c.figure("promised_speedup") and not c.baseline]
    if not timed:
        return None
    worst = min(timed, key=kept)
    if kept(worst) >= 1:
        return None
    return Line(
        what="widest gap",
        figure=f"{times(worst.figure('promised_speedup'))} → {times(worst.figure('speedup'))}",
        who=place(worst),
        more="promised → delivered",
    )


def kept(cell: Cell) -> float:
    """Delivered over promised."""
    return (cell.figure("speedup") or 0.0) / (cell.figure("promised_speedup") or 1.0)


def place(cell: Cell) -> str:
    """Recipe and backend."""
    return f"{cell.record.recipe} on {cell.record.backend}"


def drop(cell: Cell) -> str:
    """The accuracy it cost."""
    value = cell.figure("accuracy_drop_pp")
    if value is None or cell.baseline:
        return ""
    return f"accuracy {signed(-value)} pp" if abs(value) >= SHOWN_PP else "same accuracy"


def joined(parts: Sequence[str]) -> str:
    """The parts that say something."""
    return ", ".join(part for part in parts if part)
