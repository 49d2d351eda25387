"""The controls of the page: the limits and places that choose what is shown, and the facts of a cell they act on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report.advice import Advice, describe_gains, keeps_budgets, latency_of
from bench.report.budget import KEPT, MEASURED_BY, judge_budget
from bench.report.cells import Cell, league_of
from bench.report.names import name_cell
from bench.report.text import number
from bench.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number field. `budget`: the key of `[budget]` that fills it; `id`: its name in the address of a view."""

    id: str
    label: str
    budget: str


LIMITS = (
    Limit(id="drop", label="accuracy drop, pp", budget="accuracy_drop_pp"),
    Limit(id="latency", label="latency p50, ms", budget="latency_p50_ms"),
    Limit(id="size", label="file, kB", budget="file_kb"),
    Limit(id="memory", label="memory, MB", budget="memory_mb"),
    Limit(id="energy", label="energy, mJ", budget="energy_mj"),
)
CHOICES = ("target", "backend", "model")
"""Columns whose value can be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A list to choose from: its column, its label and its values."""

    id: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """The form. `limits` are those of which a cell has a figure."""

    limits: tuple[Limit, ...]
    choices: tuple[Choice, ...]


def make_controls(cells: Sequence[Cell]) -> Controls:
    """The fields that can change anything on a page of these cells."""
    shown = tuple(one for one in LIMITS if any(spend(cell, one) is not None for cell in cells))
    choices = [
        Choice(
            id=name,
            label={"backend": "runtime"}.get(name, name),
            values=tuple(dict.fromkeys(str(cell.row[name]) for cell in cells)),
        )
        for name in CHOICES
    ]
    return Controls(limits=shown, choices=tuple(choice for choice in choices if len(choice.values) > 1))


def spend(cell: Cell, limit: Limit) -> float | None:
    """A cell's figure in the unit of a limit. A baseline loses nothing to itself. An infinite one is the largest that JSON holds."""
    if limit.id == "drop":
        value = 0.0 if cell.baseline and cell.figure("score") is not None else cell.lost_pp
    else:
        column, factor = MEASURED_BY[limit.budget]
        found = cell.figure(column)
        value = None if found is None else factor * found
    return None if value is None else max(-sys.float_info.max, min(value, sys.float_info.max))


def describe_cells(cells: Sequence[Cell], advices: Sequence[Advice]) -> list[Json]:
    """For the page's script, the facts of each cell in order. `keeps`: whether it may be advised apart from the limits."""
    leagues = {advice.league: place for place, advice in enumerate(advices)}
    keys = {(cell.record.run_id, cell.record.key): place for place, cell in enumerate(cells)}
    return [
        {
            **{choice: str(cell.row[choice]) for choice in CHOICES},
            **{limit.id: spend(cell, limit) for limit in LIMITS},
            "league": leagues.get(league_of(cell)),
            "baseline": cell.baseline,
            "own": keys.get((cell.record.run_id, cell.record.baseline_key)),
            "keeps": cell.trusted and keeps_others(cell),
            "faster": cell.verdict == "faster",
            "trusted": cell.trusted,
            "name": name_cell(cell),
            "gains": describe_gains(cell),
            "ms": f"{number(latency_of(cell))} ms",
        }
        for cell in cells
    ]


def keeps_others(cell: Cell) -> bool:
    """Whether it keeps the budgets that no control limits."""
    controlled = {limit.budget for limit in LIMITS}
    others: Mapping[str, float] = {name: value for name, value in cell.record.budget.items() if name not in controlled}
    judged = judge_budget(others, cell.row)
    return judged in {None, KEPT} and (bool(cell.record.budget) or keeps_budgets(cell))


def collect_budgets(cells: Sequence[Cell]) -> dict[str, dict[str, float]]:
    """Target -> control -> the limit that its budget sets, the strictest where records differ."""
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        own = found.setdefault(cell.record.target, {})
        for limit in LIMITS:
            if limit.budget in cell.record.budget:
                value = cell.record.budget[limit.budget]
                own[limit.id] = min(value, own.get(limit.id, value))
    return {target: limits for target, limits in found.items() if limits}
