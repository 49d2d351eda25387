"""Runtimes side by side: the same model, recipe, inputs and accuracy set of one run, on each backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.report.cells import Cell, League, group, is_faster, league_of, smallest_effect_of
from bench.report.names import make_league_namer
from bench.report.page.execution_notes import Note, describe_execution
from bench.report.signs import NO_DIFFERENCE
from bench.report.text import NONE, interval, number, percent, short_percent, times
from bench.types import Clock, Status

FIT = (Status.OK, Status.INCONCLUSIVE)
"""Statuses that may win. The interval over launches covers what makes a cell inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One backend in one row; `cell` is None where the run has no such cell."""

    backend: str
    cell: Cell | None = None
    text: str = NONE
    within: str = ""
    accuracy: str = ""
    won: bool = False
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One model and recipe on each backend.

    `winner`: a backend, `NO_DIFFERENCE`, or "–" where fewer than two can be believed. `detail`: by how much, or why.
    """

    model: str
    recipe: str
    where: str
    winner: str
    detail: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The section: its backends, one match per row, and how often each wins."""

    backends: tuple[str, ...]
    matches: tuple[Match, ...]
    won: tuple[tuple[str, int], ...]


def compare_runtimes(cells: Sequence[Cell]) -> Comparison | None:
    """None unless one run timed some model and recipe on several backends, by clocks of one kind."""
    contests = find_contests(cells)
    if not any(len({cell.record.backend for cell in contest if median_ms(cell)}) > 1 for contest in contests.values()):
        return None
    backends = tuple(dict.fromkeys(cell.record.backend for contest in contests.values() for cell in contest))
    name_league = make_league_namer([cell for contest in contests.values() for cell in contest])
    matches = tuple(make_match(contest, backends, name_league(at)) for (at, _), contest in contests.items())
    return Comparison(
        backends=backends,
        matches=matches,
        won=tuple(Counter(match.winner for match in matches if match.winner != NONE).most_common()),
    )


def find_contests(cells: Sequence[Cell]) -> dict[tuple[League, str], list[Cell]]:
    """(league, recipe) -> its cells on several backends, from the last run that has several.

    A cell that was not measured has no clock, so it stands in the row of each clock that the others have.
    """
    found: dict[tuple[League, str], list[Cell]] = {}
    same = group(cells, lambda c: (c.record.run_id, replace(league_of(c), clock=Clock.HOST), c.record.recipe))
    for (_, at, recipe), members in same.items():
        for clock in dict.fromkeys(cell.record.clock for cell in members if median_ms(cell)):
            contest = [c for c in members if (c.record.clock is clock if median_ms(c) else c.record.status not in FIT)]
            if len({cell.record.backend for cell in contest}) > 1:
                found[replace(at, clock=clock), recipe] = contest
    return found


def make_match(cells: Sequence[Cell], backends: Sequence[str], where: str) -> Match:
    """One row."""
    winner, detail = decide_winner(cells)
    by_backend = {cell.record.backend: cell for cell in cells}
    first = cells[0].record
    return Match(
        model=first.model,
        recipe=first.recipe,
        where=where,
        winner=winner,
        detail=detail,
        sides=tuple(make_side(name, by_backend.get(name), won=name == winner) for name in backends),
    )


def make_side(backend: str, cell: Cell | None, *, won: bool) -> Side:
    """What one backend shows in a row."""
    if cell is None:
        return Side(backend=backend)
    accuracy, score = cell.figure("accuracy"), cell.figure("score")
    judged = f"{cell.row['score_name']} {number(score)}" if accuracy is None and score is not None else ""
    return Side(
        backend=backend,
        cell=cell,
        text=number(median_ms(cell)),
        within=interval(cell.figure("latency_p50_low_ms"), cell.figure("latency_p50_high_ms")),
        accuracy=judged if accuracy is None else percent(accuracy),
        won=won,
        notes=tuple(describe_execution(cell.record)),
    )


def decide_winner(cells: Sequence[Cell]) -> tuple[str, str]:
    """Which backend is faster and by how much, or why none is shown to be. Only cells that are `FIT` can win."""
    fit = sorted((c for c in cells if median_ms(c) and c.record.status in FIT), key=lambda c: median_ms(c) or 0.0)
    if len(fit) < 2:
        return NONE, f"only {fit[0].record.backend} can be believed" if fit else "none can be believed"
    best, second = fit[0], fit[1]
    if any(cell.figure("latency_p50_high_ms") is None for cell in fit):
        simulated = best.record.clock is Clock.SIMULATED
        return (
            NO_DIFFERENCE,
            "simulated times have no interval" if simulated else "fewer than 3 launches have no interval",
        )
    level = [cell.record.backend for cell in fit[1:] if not is_faster(best, cell)]
    if level:
        apart = f"overlap or are not over {short_percent(smallest_effect_of(fit))} apart"
        return NO_DIFFERENCE, f"the intervals of {', '.join((best.record.backend, *level))} {apart}"
    return (
        best.record.backend,
        f"{second.record.backend} takes {times((median_ms(second) or 0) / (median_ms(best) or 1))} as long",
    )


def median_ms(cell: Cell) -> float | None:
    """Its median latency in milliseconds."""
    return cell.figure("latency_p50_ms")
