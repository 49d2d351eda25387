"""One series -> whether and where it changed lately, by how much, and how likely chance does that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from bench.regress.environment import compare_environments
from bench.regress.points import Point
from bench.regress.series import Series
from bench.stats import Estimate
from bench.stats.changes import Change, Question, answer
from bench.stats.levels import level_ratio, newest_p

RECENT = 14
"""A change of the newest so many nights is an alarm; an older one is history."""
MOST = 365
"""Nights that are looked back at."""
CONSTANT = 5
"""After so many equal values of a measured figure, another value is a fact like one of a counted figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one series shows. `place`: the index of the first point after the change; None without one.

    `ratio`: level after over level before. `p`: of the change; 1 without one. `newest_p`: of the newest point against
    the level before it, where no change was found. `certain`: the figure is counted, so no chance is in it.
    """

    series: Series
    place: int | None = None
    ratio: Estimate | None = None
    p: float = 1.0
    newest_p: float = 1.0
    certain: bool = False

    @property
    def change(self) -> Point | None:
        """The first point after the change."""
        return None if self.place is None else self.series.points[self.place]


Search = Callable[[Sequence[Question]], Sequence[Sequence[Change]]]
"""Answers every question, as `bench.stats.changes.answer` does."""


def judge(series: Series, *, recent: int = RECENT) -> Judged:
    """As `judge_all`, of one series."""
    return judge_all([series], recent=recent)[0]


def judge_all(all_series: Sequence[Series], *, recent: int = RECENT, search: Search = answer) -> list[Judged]:
    """The newest change of each series, if it lies within its `recent` newest points. Deterministic for a series."""
    cut = [replace(series, points=series.points[-MOST:]) for series in all_series]
    questions = {place: asked for place, series in enumerate(cut) if (asked := pose(series, recent))}
    changes = dict(zip(questions, search(list(questions.values())), strict=True))
    return [
        judge_measured(series, recent, changes[place]) if place in changes else judge_fact(series, recent)
        for place, series in enumerate(cut)
    ]


def pose(series: Series, recent: int) -> Question | None:
    """What is to be searched; None where chance plays no part in the series."""
    values = series.points.values.tolist()
    if len(values) < 2 or series.counted or find_fact(values, counted=False) is not None:
        return None
    return Question(values=tuple(values), seed=seed_of(series), exact_from=len(values) - recent)


def judge_fact(series: Series, recent: int) -> Judged:
    """A series that takes another value only where something changed."""
    values = series.points.values.tolist()
    if len(values) < 2:
        return Judged(series=series)
    place = find_fact(values, counted=series.counted)
    if place is None or place < len(values) - recent:
        return Judged(series=series, certain=True)
    exact = values[-1] / values[place - 1]
    ratio = Estimate(value=exact, low=exact, high=exact, n=len(values))
    return Judged(series=series, place=place, ratio=ratio, p=0.0, certain=True)


def find_fact(values: Sequence[float], *, counted: bool) -> int | None:
    """Where a figure without scatter last took another value; None where it did not, or where it scatters."""
    given = np.asarray(values)
    steps = np.flatnonzero(given[1:] != given[:-1]) + 1
    if not len(steps):
        return None
    constant = bool(np.all(np.diff(steps, prepend=0) >= CONSTANT))
    return int(steps[-1]) if counted or constant else None


def judge_measured(series: Series, recent: int, changes: Sequence[Change]) -> Judged:
    """By change points; without a recent one, by the newest value against its level."""
    values = series.points.values.tolist()
    ends = [0, *(change.index for change in changes), len(values)]
    if changes and changes[-1].index >= len(values) - recent:
        newest = changes[-1]
        ratio = level_ratio(values[ends[-3] : newest.index], values[newest.index :])
        return Judged(series=series, place=newest.index, ratio=ratio, p=newest.p)
    level = values[ends[-2] : -1]
    if len(level) < 2:
        return Judged(series=series)
    return Judged(
        series=series,
        place=len(values) - 1,
        ratio=level_ratio(level, values[-1:]),
        newest_p=newest_p(level, values[-1]),
    )


def seed_of(series: Series) -> int:
    """A seed of its own for each series, the same every night."""
    return int.from_bytes(sha256(series.key.text.encode()).digest()[:4], "big")


def find_causes(judged: Judged) -> list[str]:
    """Facts of the environment that changed with the series, within one night: a change is located no better."""
    if judged.place is None:
        return []
    points = judged.series.points
    for place in (judged.place, judged.place - 1, judged.place + 1):
        if 0 < place < len(points):
            found = compare_environments(points[place - 1].environment, points[place].environment)
            if found:
                return found
    return []


def file_changed(judged: Judged) -> bool:
    """Whether the deployed file is another one since the change."""
    if not judged.place:
        return False
    before, after = (judged.series.points[place].digest for place in (judged.place - 1, judged.place))
    return bool(before and after) and before != after
