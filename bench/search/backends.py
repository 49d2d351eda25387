"""Several backends of one target: each runs the uncompressed network, and the search continues with the fastest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from bench.config.suite import BASELINE
from bench.errors import BoardLost, CellFailed, InvalidInput, OtherNetwork, Unsupported
from bench.line.plan import Plan, PlannedCell
from bench.records import Record
from bench.search.asked import Asked, check_measurable, make_goal
from bench.search.goal import UNITS, Goal
from bench.search.strategies.interface import Tried, cost_of, number

SHARE = 0.25
"""Of the search's time, from the end of the first one on, after which no further backend is tried."""
CANDIDATE, FAMILY = "widths-", "family-"
"""How the names of candidates begin, and those of families of the uncompressed network, which every backend runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBackend:
    """The uncompressed network on one backend. `cost`: the least of itself and of each family without training that keeps
    the limit of quality; None where it was not measured. `family`: whose that is. `why`: what speaks against it."""

    backend: str
    cost: float | None = None
    family: str = ""
    why: str = ""

    def text(self, unit: str) -> str:
        """For people."""
        cost = "" if self.cost is None else f" {self.cost:.4g}{unit}"
        family = f" with {self.family}" if self.family else ""
        return f"{self.backend}{cost}{family}{f' ({self.why})' if self.why else ''}"


class Search(Protocol):
    """A search on one backend that has not begun."""

    def try_whole(self) -> Tried:
        """The uncompressed network, or the family of it that costs least; the network where it is not believed."""


S = TypeVar("S", bound=Search)


def split(plan: Plan) -> list[Plan]:
    """A plan for each backend. Raises `InvalidInput` where the cells differ in anything else."""
    cells = plan.cells
    if any((cell.model.name, cell.conditions) != (cells[0].model.name, cells[0].conditions) for cell in cells):
        models = ", ".join(dict.fromkeys(cell.model.name for cell in cells))
        raise InvalidInput(f"a search has one model, batch, thread count and device: name one --model of {models}")
    return [replace(plan, cells=(cell,)) for cell in cells]


def find_one(plan: Plan, backend: str) -> Plan:
    """The plan for the backend of this title. Raises `InvalidInput` where there is none."""
    found = [one for one in split(plan) if one.cells[0].backend.title == backend]
    if not found:
        raise InvalidInput(f"target {plan.target.name} has no backend {backend} here")
    return found[0]


def find_usable(asked: Asked, plan: Plan, note: Callable[[str], None]) -> tuple[Plan, Goal]:
    """The plan with the backends that can be searched for one goal, that of the first; the others are noted.

    Raises `InvalidInput` as `split`, and as `make_goal` and `check_measurable` where there is none.
    """
    usable: list[PlannedCell] = []
    goals: list[Goal] = []
    refused: list[InvalidInput] = []
    why: dict[str, str] = {}
    for one in split(plan):
        (cell,) = one.cells
        try:
            goal = make_goal(asked, one)
            check_measurable(one, goal)
        except InvalidInput as error:
            refused.append(error)
            why[cell.backend.title] = str(error)
            continue
        if goals and goal != goals[0]:
            why[cell.backend.title] = f"{usable[0].backend.title} is searched for another figure"
            continue
        usable.append(cell)
        goals.append(goal)
    if not goals:
        raise refused[0]
    for title, text in why.items():
        note(f"backend {title} is left out: {text}")
    return replace(plan, cells=tuple(usable)), goals[0]


def keep_begun(plan: Plan, records: Sequence[Record], note: Callable[[str], None]) -> Plan:
    """The plan with the backend of the candidates that are stored, of a search that is continued; else as it is."""
    begun = {one.backend for one in records if one.recipe != BASELINE and not one.recipe.startswith(FAMILY)}
    cells = tuple(cell for cell in plan.cells if cell.backend.title in begun)
    if not cells or len(plan.cells) == 1:
        return plan
    note(f"--resume: the search continues on backend {cells[0].backend.title}, which has candidates")
    return replace(plan, cells=cells)


def choose(
    searches: Sequence[tuple[str, S]],
    goal: Goal,
    seconds: float,
    note: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[S, tuple[OnBackend, ...]]:
    """The search whose backend runs the uncompressed network fastest, and what each did. `searches`: by the backend's title.

    No other is tried once `seconds` have passed since the first one ran. A backend that is not believed, or that loses more
    accuracy than the limit against the best one, is taken only where there is no other. Raises what the first raised,
    where none can run it.
    """
    if len(searches) == 1:
        return searches[0][1], ()
    tried: dict[str, Tried] = {}
    why: dict[str, str] = {}
    raised: list[CellFailed | InvalidInput | Unsupported] = []
    first_s = math.inf
    for title, search in searches:
        if clock() - first_s > seconds:
            why[title] = f"not tried: {SHARE:.0%} of the time was over"
            continue
        try:
            tried[title] = search.try_whole()
            first_s = min(first_s, clock())
        except (BoardLost, OtherNetwork):
            raise
        except (CellFailed, InvalidInput, Unsupported) as error:
            raised.append(error)
            why[title] = f"not searched: {error}"
    if not tried:
        raise raised[0]
    why |= _reasons_against(tried, goal)
    each = tuple(_describe(title, tried.get(title), why.get(title, "")) for title, _ in searches)
    best = min(tried, key=lambda title: (title in why, cost_of(tried[title])))
    note(f"uncompressed: {'; '.join(one.text(UNITS[goal.cost]) for one in each)}: the search continues with {best}")
    return dict(searches)[best], each


def _reasons_against(tried: Mapping[str, Tried], goal: Goal) -> dict[str, str]:
    """Backend -> why its figures do not count, or that it is less accurate than the limit allows."""
    found = {title: f"not believed: {one.row['reason']}" for title, one in tried.items() if not one.counts}
    accuracy = {title: number(one.row, "accuracy") for title, one in tried.items() if title not in found}
    known = {title: 100 * value for title, value in accuracy.items() if value is not None}
    most = goal.quality.get("accuracy_drop_pp", math.inf)
    return found | {
        title: f"{max(known.values()) - value:.2f} points less accurate than the best, {most:g} allowed"
        for title, value in known.items()
        if max(known.values()) - value > most
    }


def _describe(title: str, one: Tried | None, why: str) -> OnBackend:
    return (
        OnBackend(backend=title, cost=one.cost, family=one.family, why=why)
        if one
        else OnBackend(backend=title, why=why)
    )
