"""Several backends or thread counts of one target: each runs the uncompressed network, and the search continues with the fastest."""

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
    """The uncompressed network on one backend. `threads`: None where all run with as many. `cost`: the least of itself and of each
    family without training that keeps the limit of quality; None where it was not measured. `family`: whose that is. `why`: what
    speaks against it."""

    backend: str
    threads: int | None = None
    cost: float | None = None
    family: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """What tells it apart."""
        if self.threads is None:
            return self.backend
        return f"{self.backend}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def text(self, unit: str) -> str:
        """For people."""
        cost = "" if self.cost is None else f" {self.cost:.4g}{unit}"
        family = f" with {self.family}" if self.family else ""
        return f"{self.name}{cost}{family}{f' ({self.why})' if self.why else ''}"


class Search(Protocol):
    """A search on one backend that has not begun."""

    def try_whole(self) -> Tried:
        """The uncompressed network, or the family of it that costs least; the network where it is not believed."""


S = TypeVar("S", bound=Search)


def split(plan: Plan) -> list[Plan]:
    """A plan for each backend and thread count. Raises `InvalidInput` where the cells differ in anything else."""
    cells = plan.cells
    one_each = (
        ("model: name one --model of", [cell.model.name for cell in cells]),
        ("batch, as another one is another workload: name one --batch of", [cell.conditions.batch for cell in cells]),
        (
            f"device: leave one in key 'devices' of target {plan.target.name}, of",
            [cell.conditions.device for cell in cells],
        ),
    )
    for what, values in one_each:
        if len(different := dict.fromkeys(map(str, values))) > 1:
            raise InvalidInput(f"a search has one {what} {', '.join(different)}")
    return [replace(plan, cells=(cell,)) for cell in cells]


def name_cells(plan: Plan) -> list[OnBackend]:
    """Where each cell of a plan runs, told apart: with its threads where they have several."""
    several = len({cell.conditions.threads for cell in plan.cells}) > 1
    return [
        OnBackend(backend=cell.backend.title, threads=cell.conditions.threads if several else None)
        for cell in plan.cells
    ]


def find_one(plan: Plan, backend: str, threads: int) -> Plan:
    """The plan for the backend of this title with so many threads. Raises `InvalidInput` where there is none."""
    wanted = (backend, threads)
    found = [one for one in split(plan) if (one.cells[0].backend.title, one.cells[0].conditions.threads) == wanted]
    if not found:
        raise InvalidInput(f"target {plan.target.name} has no backend {backend} with threads {threads} here")
    return found[0]


def find_usable(asked: Asked, plan: Plan, note: Callable[[str], None]) -> tuple[Plan, Goal]:
    """The plan with the backends that can be searched for one goal, that of the first; the others are noted.

    Raises `InvalidInput` as `split`, and as `make_goal` and `check_measurable` where there is none.
    """
    usable: list[PlannedCell] = []
    goals: list[Goal] = []
    refused: list[InvalidInput] = []
    why: dict[str, str] = {}
    for one, place in zip(split(plan), name_cells(plan), strict=True):
        (cell,) = one.cells
        try:
            goal = make_goal(asked, one)
            check_measurable(one, goal)
        except InvalidInput as error:
            refused.append(error)
            why[place.name] = str(error)
            continue
        if goals and goal != goals[0]:
            why[place.name] = f"{usable[0].backend.title} is searched for another figure"
            continue
        usable.append(cell)
        goals.append(goal)
    if not goals:
        raise refused[0]
    for name, text in why.items():
        note(f"backend {name} is left out: {text}")
    return replace(plan, cells=tuple(usable)), goals[0]


def keep_begun(plan: Plan, records: Sequence[Record], note: Callable[[str], None]) -> Plan:
    """The plan with the backend and threads of the candidates that are stored, of a search that is continued; else as it is."""
    candidates = (one for one in records if one.recipe != BASELINE and not one.recipe.startswith(FAMILY))
    begun = {(one.backend, one.conditions.threads) for one in candidates}
    kept = [
        (cell, place)
        for cell, place in zip(plan.cells, name_cells(plan), strict=True)
        if (cell.backend.title, cell.conditions.threads) in begun
    ]
    if not kept or len(plan.cells) == 1:
        return plan
    note(f"--resume: the search continues on backend {kept[0][1].name}, which has candidates")
    return replace(plan, cells=tuple(cell for cell, _ in kept))


def choose(
    searches: Sequence[tuple[OnBackend, S]],
    goal: Goal,
    seconds: float,
    note: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[S, tuple[OnBackend, ...]]:
    """The search whose backend runs the uncompressed network fastest, and what each did. `searches`: by the backend.

    No other is tried once `seconds` have passed since the first one ran. A backend that is not believed, or that loses more
    accuracy than the limit against the best one, is taken only where there is no other. Raises what the first raised,
    where none can run it.
    """
    if len(searches) == 1:
        return searches[0][1], ()
    tried: dict[OnBackend, Tried] = {}
    why: dict[OnBackend, str] = {}
    raised: list[CellFailed | InvalidInput | Unsupported] = []
    first_s = math.inf
    for place, search in searches:
        if clock() - first_s > seconds:
            why[place] = f"not tried: {SHARE:.0%} of the time was over"
            continue
        try:
            tried[place] = search.try_whole()
            first_s = min(first_s, clock())
        except (BoardLost, OtherNetwork):
            raise
        except (CellFailed, InvalidInput, Unsupported) as error:
            raised.append(error)
            why[place] = f"not searched: {error}"
    if not tried:
        raise raised[0]
    why |= _reasons_against(tried, goal)
    each = tuple(_describe(place, tried.get(place), why.get(place, "")) for place, _ in searches)
    best = min(tried, key=lambda place: (place in why, cost_of(tried[place])))
    note(
        f"uncompressed: {'; '.join(one.text(UNITS[goal.cost]) for one in each)}: the search continues with {best.name}"
    )
    return dict(searches)[best], each


def _reasons_against(tried: Mapping[OnBackend, Tried], goal: Goal) -> dict[OnBackend, str]:
    """Backend -> why its figures do not count, or that it is less accurate than the limit allows."""
    found = {place: f"not believed: {one.row['reason']}" for place, one in tried.items() if not one.counts}
    accuracy = {place: number(one.row, "accuracy") for place, one in tried.items() if place not in found}
    known = {place: 100 * value for place, value in accuracy.items() if value is not None}
    most = goal.quality.get("accuracy_drop_pp", math.inf)
    return found | {
        place: f"{max(known.values()) - value:.2f} points less accurate than the best, {most:g} allowed"
        for place, value in known.items()
        if max(known.values()) - value > most
    }


def _describe(place: OnBackend, one: Tried | None, why: str) -> OnBackend:
    return replace(place, cost=one.cost, family=one.family, why=why) if one else replace(place, why=why)
