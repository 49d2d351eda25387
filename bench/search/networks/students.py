"""Students as they are written: which of them are narrowed, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.search.goal import UNITS, Goal
from bench.search.judge import loss_text
from bench.search.strategies.axis import narrows
from bench.search.strategies.interface import Tried, number, quality_loss
from bench.types import Recipe

FAR = 2.0
"""Times the limit of quality up to which a student is narrowed that loses more than the limit: the training that follows may win
that back."""
DOUBTED = 0.25
"""The share of time of such a student, where any other network has 1."""
Own = TypeVar("Own")


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A network in the place of the user's. `title`: as the user wrote it. `recipe`: the steps that make it. `tried`: what it
    did; None where there was no time. `took_s`: how long. `why`: why it is not narrowed; "" where it is."""

    title: str
    recipe: Recipe
    tried: Tried | None = None
    took_s: float = 0.0
    why: str = ""

    def text(self) -> str:
        """For people."""
        said = f"not narrowed: {self.why}" if self.why else "narrowed"
        if self.tried is None or self.tried.cost is None:
            return f"{self.title}, {said}"
        return f"{self.title} {self.tried.cost:.4g}{UNITS[self.tried.column]}, loss {loss_text(self.tried) or 'unknown'}, {said}"


def why_not(one: Tried, whole: Tried, goal: Goal, *, trains: bool) -> str:
    """Why a student is not narrowed; "" where it is. `whole`: the uncompressed network. `trains`: training follows the narrowing.

    Nothing narrower than a student that loses too much keeps the limit, unless training wins it back.
    """
    if not one.counts:
        return f"it is {one.row['status']}: {one.row['reason'] or 'it has no figures'}"
    column = narrows(goal)
    here, there = number(one.row, column), number(whole.row, column)
    if here is None or (there is not None and here >= there):
        return f"it is not cheaper: {column} {_figure(here)}, of the uncompressed network {_figure(there)}"
    if one.fits_quality:
        return ""
    (most,) = goal.quality.values()
    lost = f"it loses {loss_text(one)}, and {most:g} is allowed"
    if not trains:
        return f"{lost}: no training follows that could win it back"
    return f"{lost}: too much for the training that follows" if quality_loss(one) > FAR * most else ""


def line_up(students: Sequence[Student], own: Own, goal: Goal) -> list[tuple[Student | Own, float]]:
    """What is narrowed in turn, each with its share of the time: students that keep the limit of quality as they are written, then
    the user's own network, then the others; the cheapest first."""

    def price(one: Student) -> float:
        assert one.tried is not None
        return number(one.tried.row, narrows(goal)) or 0.0

    ready = sorted((one for one in students if not one.why), key=price)
    kept = [one for one in ready if one.tried is not None and one.tried.fits_quality]
    doubted = [one for one in ready if one not in kept]
    line: list[tuple[Student | Own, float]] = [(one, 1.0) for one in kept]
    return [*line, (own, 1.0), *((one, DOUBTED) for one in doubted)]


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
