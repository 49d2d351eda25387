"""One figure of one cell over the runs of a store, with where it changed: what the page draws under "What changed"."""

from __future__ import annotations

from dataclasses import dataclass

MOST_MARKS = 12
"""Marks that a picture has at most; changes of the level come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened before the point `place`: a change of the level, or of the environment, in words."""

    place: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The points of one series by night. `at`: when each run began, ISO 8601. `size`: of its newest change, as |ratio - 1|.

    `changes`: where its level changed, by how much, with the 95 % interval. `environment`: what differs from the night
    before, the newest `MOST_MARKS`; `earlier`: how many more there are. `alarm`: what the newest night says of it, in words.
    """

    cell: str
    metric: str
    unit: str
    at: tuple[str, ...]
    values: tuple[float, ...]
    changes: tuple[Mark, ...] = ()
    environment: tuple[Mark, ...] = ()
    size: float = 0.0
    earlier: int = 0
    alarm: str = ""

    @property
    def label(self) -> str:
        """The metric with its unit, its clock or its meter."""
        return f"{self.metric}, {self.unit}"

    @property
    def rank(self) -> int:
        """2 with an alarm, 1 where the level changed, else 0."""
        return 2 if self.alarm else 1 if self.changes else 0

    @property
    def shown_changes(self) -> tuple[Mark, ...]:
        """Those that are drawn."""
        return self.changes[-MOST_MARKS:]

    @property
    def shown_environment(self) -> tuple[Mark, ...]:
        """Those that are drawn, if the changes of the level leave room."""
        room = max(0, MOST_MARKS - len(self.changes))
        return self.environment[-room:] if room else ()

    @property
    def hidden_marks(self) -> int:
        """Older marks that are not drawn."""
        drawn = len(self.shown_changes) + len(self.shown_environment)
        return len(self.changes) + len(self.environment) + self.earlier - drawn
