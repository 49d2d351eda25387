"""One line per model: which variant to ship, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records import AT_CHANCE, Record
from bench.report.budget import KEPT
from bench.report.cells import Cell, League, group, is_faster, league_of, make_cells
from bench.report.names import describe_drop, describe_speedup, join_parts, make_league_namer, name_cell, name_score
from bench.report.text import number, signed, times
from bench.types import Clock

MAX_DROP_PP = 1.0
"""Percentage points of accuracy that a variant may lose to be advised, unless its target has a budget of them."""
OVER_BUDGET = "over the "
"""How a reason of an older version begins where a cell exceeds a budget of its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to ship of one model in one place, as the terminal and the page say it.

    `best`: the cell to ship, a baseline where that is kept; None where nothing can be advised. `runner_up`: the next one.
    `limit_pp`: what a variant may lose, as in `lost_pp` of a cell.
    """

    league: League
    where: str
    text: str
    limit_pp: float
    best: Cell | None = None
    runner_up: Cell | None = None

    @property
    def line(self) -> str:
        """With its model, for the terminal."""
        return f"{self.league.model}{f' ({self.where})' if self.where else ''}: {self.text}"


def advise(records: Sequence[Record], max_drop_pp: float | None = None) -> list[str]:
    """The lines of `advise_cells`, for the terminal."""
    return [advice.line for advice in advise_cells(make_cells(records), max_drop_pp)]


def advise_cells(cells: Sequence[Cell], max_drop_pp: float | None = None) -> list[Advice]:
    """One for each model, data set, target and conditions that have timed cells, in the order of the cells.

    The variant to ship is the fastest trusted one that keeps every budget and loses at most `max_drop_pp` of
    accuracy: by default the target's own budget of it, else `MAX_DROP_PP`. The baseline stays if no variant is shown
    to be faster than it. Simulated times are not ranked.
    """
    cells = [cell for cell in cells if cell.record.clock is not Clock.SIMULATED]
    name_league = make_league_namer(cells)
    found = []
    for league, members in group(cells, league_of).items():
        timed = [cell for cell in members if cell.figure("latency_p50_ms")]
        if any(not cell.baseline for cell in timed):
            limit = limit_of(timed) if max_drop_pp is None else max_drop_pp
            best, runner_up = choose(timed, limit)
            text = explain(best, runner_up, timed, limit) + name_fitting(timed)
            found.append(
                Advice(
                    league=league,
                    where=name_league(league),
                    text=text,
                    limit_pp=limit,
                    best=best,
                    runner_up=runner_up,
                )
            )
    return found


def limit_of(cells: Sequence[Cell]) -> float:
    """The accuracy that a variant may lose: the strictest budget of their targets, `MAX_DROP_PP` without any."""
    limits = [cell.record.budget["accuracy_drop_pp"] for cell in cells if "accuracy_drop_pp" in cell.record.budget]
    return min(limits, default=MAX_DROP_PP)


def choose(timed: Sequence[Cell], limit_pp: float) -> tuple[Cell | None, Cell | None]:
    """The cell to ship and the next best, of cells whose latencies may be ranked; None where there is none."""
    allowed = sorted((cell for cell in timed if not why_not(cell, limit_pp)), key=latency_of)
    shown = [cell for cell in allowed if not cell.baseline and cell.verdict == "faster"]
    if not allowed:
        return None, None
    best = allowed[0]
    if not best.baseline and best not in shown:
        own = [cell for cell in allowed if cell.record.key == best.record.baseline_key] or shown
        if not own:
            return None, None
        best = own[0]
    return best, next((cell for cell in shown if cell is not best), None)


def why_not(cell: Cell, limit_pp: float) -> str:
    """Why a cell must not be advised; "" where it may be."""
    if not cell.trusted:
        return f"is {cell.record.status.value}"
    if not keeps_budgets(cell):
        judged, _, which = str(cell.row["budget"] or "").partition(": ")
        return {
            "fail": f"is over its budget ({which})",
            "unknown": f"cannot be shown to keep its budget ({which})",
        }.get(judged, "is over a budget")
    if not cell.baseline and (cell.lost_pp or 0.0) > limit_pp:
        return f"loses {number(cell.lost_pp)} {unit_of(cell)} of {name_score(cell)}"
    return ""


def latency_of(cell: Cell) -> float:
    """Its median in milliseconds."""
    return cell.figure("latency_p50_ms") or 0.0


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


def explain(best: Cell | None, runner_up: Cell | None, timed: Sequence[Cell], limit_pp: float) -> str:
    """The advice in words: what to ship with its gains and the runner-up, or what to keep and why."""
    if best is None:
        why = reject(timed, limit_pp) or "no trusted variant is shown to be faster than its baseline"
        return f"Nothing can be advised: {why}."
    second = f"; runner-up: {name_cell(runner_up)}, {describe_gains(runner_up)}" if runner_up else ""
    allowed = [cell for cell in timed if not why_not(cell, limit_pp)]
    level = [c for c in allowed if c not in (best, runner_up) and not c.baseline and not is_faster(best, c)]
    rival = f"; not told apart from {name_cell(level[0])}" if level else ""
    unknown = explain_unknown(allowed, timed)
    if not best.baseline:
        return f"Ship: {name_cell(best)}, {describe_gains(best)}{unknown}{second}{rival}."
    faster = [c for c in timed if not c.baseline and c.verdict == "faster" and latency_of(c) < latency_of(best)]
    why = reject(faster, limit_pp) if faster and not runner_up else ""
    why = why or "no trusted variant is shown to be faster than it"
    return f"Keep the {name_cell(best)}, {number(latency_of(best))} ms: {why}{unknown}{second}{rival}."


def explain_unknown(allowed: Sequence[Cell], timed: Sequence[Cell]) -> str:
    """Why accuracies say nothing here; "" where they do."""
    if all(cell.figure("score") is None for cell in allowed):
        return "; its accuracy is not known: no labels"
    guesses = [cell for cell in timed if any(reason.startswith(AT_CHANCE) for reason in cell.record.reasons)]
    return f"; its accuracy says nothing: {name_cell(guesses[0])} {AT_CHANCE}" if guesses else ""


def reject(cells: Sequence[Cell], limit_pp: float) -> str:
    """The fastest of these that may not be advised and why, with how many more there are; "" where all may be."""
    found = [(cell, why) for cell in sorted(cells, key=latency_of) if (why := why_not(cell, limit_pp))]
    if not found:
        return ""
    cell, why = found[0]
    more = f", and {len(found) - 1} more may not be advised" if len(found) > 1 else ""
    allowed = f" (at most {limit_pp:g} {unit_of(cell)})" if why.startswith("loses") else ""
    return f"{name_cell(cell)} {why}{allowed}{more}"


def describe_gains(cell: Cell) -> str:
    """Speed and size over its own baseline, and the change of accuracy with its 95 % half width."""
    return join_parts((describe_faster(cell), shrink(cell), describe_change(cell)))


def describe_faster(cell: Cell) -> str:
    """1.63x faster, or its latency where no speed-up is known."""
    speedup = cell.figure("speedup")
    return f"{times(speedup)} faster" if speedup and cell.verdict == "faster" else describe_speedup(cell)


def describe_change(cell: Cell) -> str:
    """The change of accuracy and the wider half of its 95 % interval; of another score as `describe_drop` has it."""
    ends = [cell.figure(f"accuracy_drop_{name}pp") for name in ("", "low_", "high_")]
    drop, low, high = ends
    if drop is None or low is None or high is None:
        return describe_drop(cell)
    half = max(drop - low, high - drop)
    return f"{name_score(cell)} {signed(-drop)} ± {half:.2f} pp"


def unit_of(cell: Cell) -> str:
    """Of `lost_pp`: points of a score in fractions, else per cent of it."""
    score = cell.record.quality.score if cell.record.quality else None
    return "pp" if score is None or score.unit == "fraction" else "%"


def shrink(cell: Cell) -> str:
    """How much smaller than its baseline the file is; "" if it is not."""
    factor = cell.figure("compression_ratio") or 0.0
    return f"{times(factor)} smaller" if factor > 1 else ""
