"""What all strategies share: the scene they search in, the means they have, and what a candidate did."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.search.goal import DROPS, ERROR, LATENCY, MINIMIZED, Goal
from bench.search.groups import Space
from bench.search.nouns import Choice
from bench.search.prediction.predict import Predictor

Row = Mapping[str, str | float | int | None]
SKIPPED = "skipped"
UNTRUSTED = ("failed", SKIPPED, "untrusted")
OVER = "the time is over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A candidate that was measured. `row`: of cells.csv. `over`: limit -> its figure, for each that it exceeds.

    `choice`: None for a recipe that is a candidate as it is written. `column`: of the row, what the search makes smaller.
    `predicted`: that figure before it was measured; None where nothing predicts. `recipe`: its text. `family`: the steps that
    end it, one of `Scene.families`. `at_s`: seconds of the search when it was known. `error`: the standard error of its drop,
    in the drop's unit; 0 where there is none.
    """

    choice: Choice | None
    recipe: str
    key: str
    row: Row
    over: Mapping[str, float]
    predicted: float | None
    column: str = LATENCY
    family: str = ""
    at_s: float = 0.0
    error: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether its figures may be believed."""
        return self.row["status"] not in UNTRUSTED and self.cost is not None

    @property
    def cost(self) -> float | None:
        """What the search makes smaller, measured: ms, or LUTs."""
        return number(self.row, self.column)

    @property
    def fits_resources(self) -> bool:
        """Whether it exceeds no limit but that of quality."""
        return self.counts and not {*self.over} - {*DROPS, ERROR}

    @property
    def fits_quality(self) -> bool:
        """Whether it keeps the limit of quality."""
        return self.counts and not {*self.over} & {*DROPS, ERROR}


Trial = Callable[[Choice, float | None, str], Tried]
"""Choice, its predicted cost, and family -> what it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """A candidate that ended before it was trained, and is not a cell of the store. `why`: for people. `excess`: how far its cost is
    above the one that it had to keep below, over that, less 1."""

    choice: Choice
    recipe: str
    family: str
    why: str
    excess: float


class TimeLeft(Protocol):
    """Asked before each trial."""

    def __call__(self, part: float, *, longer: bool = False) -> bool:
        """Whether another trial fits into that part of the time; `longer`: one with more training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How candidates are measured. `trial`: trains and measures one of a family, as a cell that is stored. `longer`: the
    same with more training, where the user left that open. `quick`: costs of whole untrained candidates. `look`: that of one with
    its family, the same whenever it is asked; None where weights decide it too. `end`: takes a candidate that is not tried, with
    its family, why, and its excess. `spent`: the part of the time that is over."""

    trial: Trial
    longer: Trial | None = None
    quick: Callable[[Sequence[Choice]], Sequence[float]]
    look: Callable[[Choice, str], float | None]
    end: Callable[[Choice, str, str, float], Pruned]
    time_left: TimeLeft
    spent: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """All that was tried, the uncompressed network first, and why no more was. `pruned`: what ended before it was trained."""

    tried: tuple[Tried, ...]
    why: str
    pruned: tuple[Pruned, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a strategy searches in. `families`: steps that may end a candidate, the first "" (none).

    `predictor`: None for a strategy that does not ask for one. `whole`: the uncompressed network, or the student that is narrowed.
    `own`: recipes that were tried as they are written. `best`: as `least`, of the other networks. `front`: whether time that is left
    goes into the front.
    """

    space: Space
    predictor: Predictor | None
    goal: Goal
    whole: Tried
    own: tuple[Tried, ...] = ()
    families: tuple[str, ...] = ("",)
    seed: int = 0
    best: float = math.inf
    front: bool = True


Strategy = Callable[[Scene, Means], Ended]
"""Tries candidates until it knows enough or no trial fits into the time any more.

Laws: `tried` begins with the uncompressed network, has every trial once in the order of its measurement, and the same
scene and means give the same trials, so that a stored search can be continued.
"""


def number(row: Row, column: str) -> float | None:
    """A figure of a row."""
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def cost_of(one: Tried) -> float:
    """What it costs; infinite where that is not known."""
    return one.cost or math.inf


def rank(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """Those that keep every limit, the best first.

    Best is least of what is minimized, else the best quality, and then the least cost.
    """

    def order(one: Tried) -> tuple[float, float]:
        cost = cost_of(one)
        if goal.minimize:
            value = number(one.row, MINIMIZED[goal.minimize])
            return (math.inf if value is None else value), cost
        return quality_loss(one), cost

    return sorted((one for one in tried if one.counts and not one.over), key=order)


def least(tried: Sequence[Tried], goal: Goal) -> float:
    """The least of what is minimized, else of the cost, that keeps every limit; infinite where nothing does."""
    kept = (number(one.row, MINIMIZED.get(goal.minimize, goal.cost)) for one in tried if one.counts and not one.over)
    return min((value for value in kept if value is not None), default=math.inf)


def quality_loss(one: Tried) -> float:
    """The drop, or the output's error where there are no labels; 0 for the uncompressed network."""
    found = (number(one.row, name) for name in (*DROPS, ERROR))
    return next((value for value in found if value is not None), math.inf if one.recipe else 0.0)


def front(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """Those that no other beats both in what is minimized (else in cost) and in quality, the dearest first."""
    column = MINIMIZED.get(goal.minimize, goal.cost)
    points = [(number(one.row, column), quality_loss(one), one) for one in tried if one.counts]
    known = [(cost, loss, one) for cost, loss, one in points if cost is not None]
    kept = [
        (cost, one)
        for cost, loss, one in known
        if not any((a, b) != (cost, loss) and a <= cost and b <= loss for a, b, _ in known)
    ]
    return [one for _, one in sorted(kept, key=lambda pair: -pair[0])]
