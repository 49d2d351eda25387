"""A series: one figure of one cell over the nights it was measured; and how its cell and its nights are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records import SEARCH, Run
from bench.regress.points import Points

COUNTED = {"size", "macs", "instructions"}
"""Metrics of which the same file always gives the same figure, so that any difference is a fact."""

SCORE = "accuracy"
"""The metric of an accuracy, or of another task's score."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SeriesKey:
    """What must be equal for figures to be one series. `unit`: of another unit, clock or meter is another series."""

    target: str
    device: str
    backend: str
    model: str
    recipe: str
    data: str
    conditions: str
    metric: str
    unit: str

    @property
    def cell(self) -> str:
        """As `name_cell` names the cell."""
        return join_cell(self.target, self.backend, self.model, self.recipe, self.conditions)

    @property
    def text(self) -> str:
        """All of it on one line, for people and for the store."""
        parts = (self.target, self.device, self.backend, self.model, self.recipe, self.data, self.conditions)
        return " / ".join((*(part for part in parts if part), f"{self.metric} ({self.unit})"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The points in the order of their nights. `higher`: more is better. `counted`: as `COUNTED` says."""

    key: SeriesKey
    points: Points
    higher: bool = False
    counted: bool = False


ON_BOARD = " on "
"""In the conditions of a series, before the board of a fleet."""


def join_cell(*parts: str) -> str:
    """The name of a cell from its target, backend, model, recipe and conditions."""
    return " / ".join(parts)


def name_nights(run: Run) -> tuple[str, str]:
    """What the nights of a run are counted by: two targets that run every night have 14 nights in 28 runs."""
    return run.target, run.suite


def pick_newest(runs: Sequence[Run], most: int) -> list[Run]:
    """The newest `most` nights of each target and suite, in the order given; a search is not a night."""
    seen, kept = Counter[tuple[str, str]](), list[Run]()
    for run in reversed([one for one in runs if SEARCH not in one.request]):
        seen[name_nights(run)] += 1
        if seen[name_nights(run)] <= most:
            kept.append(run)
    return kept[::-1]
