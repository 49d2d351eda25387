"""Runtimes side by side: the same model, recipe, inputs and accuracy set of one run, on each backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.report.cells import Cell, League, apart, circumstances, grouped, league
from bench.report.execution_notes import Ran, what_ran
from bench.report.text import NONE, interval, number, percent, times
from bench.types import Clock, Status

FIT = (Status.OK, Status.INCONCLUSIVE)
"""May win: an inconclusive cell's wider interval over launches says how far it is known."""
UNDECIDED = "no difference shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One backend in one row; `cell` is None where the run has none there."""

    backend: str
    cell: Cell | None = None
    text: str = NONE
    sort: float | str = ""
    within: str = ""
    accuracy: str = ""
    won: bool = False
    ran: tuple[Ran, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One model and recipe on each backend; `winner` is a backend or `UNDECIDED`, `detail` by how much or why not."""

    model: str
    recipe: str
    where: str
    winner: str
    detail: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The section: its backends, one match a row, and how often each wins."""

    backends: tuple[str, ...]
    matches: tuple[Match, ...]
    won: tuple[tuple[str, int], ...]


def side_by_side(cells: Sequence[Cell]) -> Comparison | None:
    """None unless some model and recipe was timed on several backends in one run, by clocks of one kind."""
    contests = contests_of(cells)
    if not any(len({cell.record.backend for cell in contest if fast(cell)}) > 1 for contest in contests.values()):
        return None
    backends = tuple(dict.fromkeys(cell.record.backend for contest in contests.values() for cell in contest))
    note = circumstances([cell for contest in contests.values() for cell in contest])
    matches = tuple(match_of(contest, backends, note(at)) for (at, _), contest in contests.items())
    return Comparison(
        backends=backends,
        matches=matches,
        won=tuple(Counter(match.winner for match in matches if match.winner != NONE).most_common()),
    )


def contests_of(cells: Sequence[Cell]) -> dict[tuple[League, str], list[Cell]]:
    """What is the same but for the backend, of the last run that has it on several.

    A cell that could not be measured has no clock, so it stands in the row of whatever clock the others have.
    """
    found: dict[tuple[League, str], list[Cell]] = {}
    same = grouped(cells, lambda c: (c.record.run_id, replace(league(c), clock=Clock.HOST), c.record.recipe))
    for (_, at, recipe), group in same.items():
        for clock in dict.fromkeys(cell.record.clock for cell in group if fast(cell)):
            contest = [c for c in group if (c.record.clock is clock if fast(c) else c.record.status not in FIT)]
            if len({cell.record.backend for cell in contest}) > 1:
                found[replace(at, clock=clock), recipe] = contest
    return found


def match_of(cells: Sequence[Cell], backends: Sequence[str], where: str) -> Match:
    """One row."""
    winner, detail = verdict(cells)
    by_backend = {cell.record.backend: cell for cell in cells}
    first = cells[0].record
    return Match(
        model=first.model,
        recipe=first.recipe,
        where=where,
        winner=winner,
        detail=detail,
        sides=tuple(side_of(name, by_backend.get(name), won=name == winner) for name in backends),
    )


def side_of(backend: str, cell: Cell | None, *, won: bool) -> Side:
    """What one backend shows in a row."""
    if cell is None:
        return Side(backend=backend)
    accuracy = cell.figure("accuracy")
    return Side(
        backend=backend,
        cell=cell,
        text=number(fast(cell)),
        sort=fast(cell) or "",
        within=interval(cell.figure("latency_p50_low_ms"), cell.figure("latency_p50_high_ms")),
        accuracy="" if accuracy is None else percent(accuracy),
        won=won,
        ran=tuple(what_ran(cell.record)),
    )


def verdict(cells: Sequence[Cell]) -> tuple[str, str]:
    """Who is faster, and by how much; or that nobody is shown to be, and why. Never a cell that is not `FIT`."""
    fit = sorted((c for c in cells if fast(c) and c.record.status in FIT), key=lambda c: fast(c) or 0.0)
    if len(fit) < 2:
        return NONE, f"only {fit[0].record.backend} can be believed" if fit else "none can be believed"
    best, second = fit[0], fit[1]
    if any(cell.figure("latency_p50_high_ms") is None for cell in fit):
        simulated = best.record.clock is Clock.SIMULATED
        return UNDECIDED, "simulated times have no interval" if simulated else "fewer than 3 launches have no interval"
    level = [cell.record.backend for cell in fit[1:] if not apart(best, cell)]
    if level:
        return UNDECIDED, f"the intervals of {', '.join((best.record.backend, *level))} overlap"
    return (
        best.record.backend,
        f"{second.record.backend} takes {times((fast(second) or 0) / (fast(best) or 1))} as long",
    )


def fast(cell: Cell) -> float | None:
    """Its median latency in milliseconds."""
    return cell.figure("latency_p50_ms")
