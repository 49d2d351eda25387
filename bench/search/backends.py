"""Several backends of one target: each runs the uncompressed network, and the search continues with the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from bench.errors import CellFailed, InvalidInput, Unsupported
from bench.line.plan import Plan, PlannedCell
from bench.search.asked import Asked, check_measurable, make_goal
from bench.search.goal import UNITS, Goal
from bench.search.strategies.interface import Tried

SHARE = 0.25
"""Of the search's time, after which no further backend is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBackend:
    """The uncompressed network on one backend. `cost`: the least of itself and of each family without training that keeps
    the limit of quality; None where it was not measured. `family`: whose that is. `why`: what went wrong."""

    backend: str
    cost: float | None = None
    family: str = ""
    why: str = ""

    def text(self, unit: str) -> str:
        """For people."""
        found = self.why if self.cost is None else f"{self.cost:.4g}{unit}"
        return f"{self.backend} {found}{f' with {self.family}' if self.family else ''}"


class Search(Protocol):
    """A search on one backend that has not begun."""

    def try_whole(self) -> Tried:
        """The uncompressed network, or the family of it that costs least."""


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


def find_usable(asked: Asked, plan: Plan, note: Callable[[str], None]) -> tuple[list[Plan], Goal]:
    """The plans of the backends that can be searched for the same goal, the others being noted.

    Raises `InvalidInput` as `make_goal` and `check_measurable`, where there is none.
    """
    goals: list[tuple[Plan, Goal]] = []
    reasons: list[InvalidInput] = []
    for one in split(plan):
        try:
            goal = make_goal(asked, one)
            check_measurable(one, goal)
        except InvalidInput as error:
            reasons.append(error)
            continue
        goals.append((one, goal))
    if not goals:
        raise reasons[0]
    for why in reasons:
        note(f"a backend is left out: {why}")
    first = goals[0][1]
    return [one for one, goal in goals if goal == first], first


def choose(
    searches: Sequence[tuple[PlannedCell, S]], goal: Goal, over: Callable[[], bool], note: Callable[[str], None]
) -> tuple[S, tuple[OnBackend, ...]]:
    """The search whose backend runs the uncompressed network fastest, and what each did. `over`: whether the time to try is.

    Raises what the first raised, where none can run it.
    """
    if len(searches) == 1:
        return searches[0][1], ()
    found: list[tuple[OnBackend, S]] = []
    raised: list[CellFailed | InvalidInput | Unsupported] = []
    tried: list[OnBackend] = []
    for cell, search in searches:
        title = cell.backend.title
        if found and over():
            tried.append(OnBackend(backend=title, why=f"not tried: {SHARE:.0%} of the time was over"))
            continue
        try:
            best = search.try_whole()
        except (CellFailed, InvalidInput, Unsupported) as error:
            raised.append(error)
            tried.append(OnBackend(backend=title, why=f"not searched: {error}"))
            continue
        tried.append(OnBackend(backend=title, cost=best.cost, family=best.family))
        found.append((tried[-1], search))
    if not found:
        raise raised[0]
    best_on, search = min(found, key=lambda one: one[0].cost or 0.0)
    note(
        f"uncompressed: {'; '.join(one.text(UNITS[goal.cost]) for one in tried)}: the search continues with {best_on.backend}"
    )
    return search, tuple(tried)
