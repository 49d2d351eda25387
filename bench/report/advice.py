"""One line per model: which variant to ship, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records import Record
from bench.report.budget import KEPT
from bench.report.cells import Cell, League, group, is_faster, league_of, make_cells
from bench.report.names import describe_drop, describe_speedup, join_parts, make_league_namer, name_cell, name_score
from bench.report.text import number, times
from bench.types import Clock

MAX_DROP_PP = 1.0
"""Percentage points of accuracy that a variant may lose to be advised."""
OVER_BUDGET = "over the "
"""How a reason of an older version begins where a cell exceeds a budget of its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to ship of one model in one place, as the terminal and the page say it."""

    league: League
    where: str
    text: str

    @property
    def line(self) -> str:
        """With its model, for the terminal."""
        return f"{self.league.model}{f' ({self.where})' if self.where else ''}: {self.text}"


def advise(records: Sequence[Record], max_drop_pp: float = MAX_DROP_PP) -> list[str]:
    """The lines of `advise_cells`, for the terminal."""
    return [advice.line for advice in advise_cells(make_cells(records), max_drop_pp)]


def advise_cells(cells: Sequence[Cell], max_drop_pp: float = MAX_DROP_PP) -> list[Advice]:
    """One for each model, data set, target and conditions that have timed cells, in the order of the cells.

    The variant to ship is the fastest trusted one that keeps every budget and loses at most `max_drop_pp` of
    accuracy. The baseline stays if no variant is shown to be faster than it. Simulated times are not ranked.
    """
    cells = [cell for cell in cells if cell.record.clock is not Clock.SIMULATED]
    name_league = make_league_namer(cells)
    found = []
    for league, members in group(cells, league_of).items():
        timed = [cell for cell in members if cell.figure("latency_p50_ms")]
        if any(not cell.baseline for cell in timed):
            found.append(
                Advice(league=league, where=name_league(league), text=choose(timed, max_drop_pp) + name_fitting(timed))
            )
    return found


def choose(timed: Sequence[Cell], max_drop_pp: float) -> str:
    """The advice for cells whose latencies may be ranked."""
    fit = [cell for cell in timed if cell.trusted and keeps_budgets(cell)]
    if not fit:
        return "nothing can be advised: no cell is both trusted and within the budgets."
    allowed = [cell for cell in fit if cell.baseline or (cell.lost_pp or 0.0) <= max_drop_pp]
    if not allowed:
        return f"nothing can be advised: every trusted cell loses over {describe_limit(fit, max_drop_pp)}."
    best = min(allowed, key=lambda cell: cell.figure("latency_p50_ms") or 0.0)
    if not best.baseline and best.verdict != "faster":
        own = next((cell for cell in allowed if cell.record.key == best.record.baseline_key), None)
        if own is None:
            return "nothing can be advised: no trusted variant is shown to be faster than its baseline."
        best = own
    return explain(best, allowed, max_drop_pp)


def keeps_budgets(cell: Cell) -> bool:
    """Whether it passes the budget of its target, if there is one. Cells of older versions say in a reason what is over."""
    over = any(reason.startswith(OVER_BUDGET) for reason in cell.record.reasons)
    return cell.row["budget"] in {None, KEPT} and not over


def name_fitting(timed: Sequence[Cell]) -> str:
    """Which trusted cells keep every budget; "" where the target has none."""
    if not any(cell.record.budget for cell in timed):
        return ""
    names = [name_cell(cell) for cell in timed if cell.trusted and keeps_budgets(cell)]
    return f" Within every budget: {', '.join(names) or 'none'}."


def explain(best: Cell, allowed: Sequence[Cell], max_drop_pp: float) -> str:
    """What to ship, its gains over its own baseline, and what is as fast as far as the intervals show."""
    latency = f"{number(best.figure('latency_p50_ms'))} ms"
    judged = any(cell.figure("score") is not None for cell in allowed)
    limit = f"within {describe_limit(allowed, max_drop_pp)}" if judged else "its accuracy is not known: no labels"
    level = [cell for cell in allowed if cell is not best and not cell.baseline and not is_faster(best, cell)]
    rival = f"; not told apart from {name_cell(level[0])}" if level else ""
    if best.baseline:
        return f"keep the {name_cell(best)}, {latency}: no trusted variant is shown to be faster ({limit}){rival}."
    gains = join_parts((describe_speedup(best), shrink(best), describe_drop(best), limit))
    return f"ship {name_cell(best)}, {latency}: {gains}{rival}."


def describe_limit(cells: Sequence[Cell], max_drop_pp: float) -> str:
    """How much may be lost: points of a score in fractions, else per cent of it."""
    judged = next((cell for cell in cells if cell.figure("score") is not None), cells[0])
    score = judged.record.quality.score if judged.record.quality else None
    unit = "pp" if score is None or score.unit == "fraction" else "%"
    return f"{max_drop_pp:g} {unit} of {name_score(judged)}"


def shrink(cell: Cell) -> str:
    """How much smaller than its baseline the file is; "" if it is not."""
    factor = cell.figure("compression_ratio") or 0.0
    return f"{times(factor)} smaller" if factor > 1 else ""
