"""The headlines: for each model what to ship, the fastest, the smallest and the widest gap to the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.advice import advise_cells
from bench.report.cells import Cell, group, is_faster, league_of
from bench.report.names import describe_drop, describe_speedup, join_parts, make_league_namer, name_cell
from bench.report.text import interval, number, size, times


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One headline: its subject, its figure, the cell it is about, and what else to know."""

    what: str
    figure: str
    who: str
    more: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The headlines of one model in one place. `advice`: what the terminal advises; "" where it advises nothing."""

    model: str
    where: str
    advice: str
    lines: tuple[Line, ...]


def write_headlines(cells: Sequence[Cell]) -> list[Card]:
    """One card per league: the advice, and the rest from trusted cells only."""
    name_league = make_league_namer(cells)
    advised = {advice.league: advice.text for advice in advise_cells(cells)}
    found = []
    for at, members in group(cells, league_of).items():
        trusted = [cell for cell in members if cell.trusted]
        lines = [line for line in (find_fastest(trusted), find_smallest(trusted), find_widest_gap(trusted)) if line]
        if lines or at in advised:
            found.append(Card(model=at.model, where=name_league(at), advice=advised.get(at, ""), lines=tuple(lines)))
    return found


def find_fastest(cells: Sequence[Cell]) -> Line | None:
    """The lowest median latency over all backends. Its speed-up is over the baseline of its own backend."""
    timed = sorted((c for c in cells if c.figure("latency_p50_ms")), key=lambda c: c.figure("latency_p50_ms") or 0.0)
    if len(timed) < 2:
        return None
    best, *others = timed
    within = interval(best.figure("latency_p50_low_ms"), best.figure("latency_p50_high_ms"))
    return Line(
        what="fastest",
        figure=f"{number(best.figure('latency_p50_ms'))} ms",
        who=name_cell(best),
        more=join_parts(
            (
                f"95 %: {within}" if within else "",
                describe_speedup(best),
                describe_drop(best),
                name_rivals(best, others),
            )
        ),
    )


def name_rivals(best: Cell, others: Sequence[Cell]) -> str:
    """Cells that the fastest is not shown to beat. Its interleaved pairs decide about its baseline."""
    paired = best.record.baseline_key if best.verdict == "faster" else ""
    level = [name_cell(cell) for cell in others if cell.record.key != paired and not is_faster(best, cell)]
    if not level:
        return ""
    return f"not told apart from {level[0]}{f' and {len(level) - 1} more' if len(level) > 1 else ''}"


def find_smallest(cells: Sequence[Cell]) -> Line | None:
    """The smallest file over all backends."""
    sized = [cell for cell in cells if cell.figure("file_bytes")]
    if len(sized) < 2:
        return None
    best = min(sized, key=lambda cell: cell.figure("file_bytes") or 0.0)
    factor = best.figure("compression_ratio")
    return Line(
        what="smallest",
        figure=size(best.figure("file_bytes")),
        who=name_cell(best),
        more=join_parts(
            (
                "" if best.baseline or factor is None else f"{times(factor)} smaller than its baseline",
                describe_drop(best),
            )
        ),
    )


def find_widest_gap(cells: Sequence[Cell]) -> Line | None:
    """The cell that delivered the smallest share of the speed-up it promised."""
    timed = [c for c in cells if c.figure("speedup") and c.figure("promised_speedup") and not c.baseline]
    if not timed:
        return None
    worst = min(timed, key=kept_share)
    if kept_share(worst) >= 1:
        return None
    return Line(
        what="widest gap",
        figure=f"{times(worst.figure('promised_speedup'))} → {times(worst.figure('speedup'))}",
        who=name_cell(worst),
        more="promised → delivered",
    )


def kept_share(cell: Cell) -> float:
    """Delivered over promised speed-up."""
    return (cell.figure("speedup") or 0.0) / (cell.figure("promised_speedup") or 1.0)
