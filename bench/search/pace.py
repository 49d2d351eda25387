"""The clock of a search: how long its trials take, and whether another one fits in before the finalists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

RESERVE, KNOWN_RESERVE = 3.0, 1.0
"""Times the longest trial that are kept for the finalists, besides the time that the uncompressed network took: where they are
trained again with all samples or synthesised, and where a data set with validation samples leaves trials all of them."""
LONGER_TAKES = 4.0
"""Times the longest usual trial that one of the second round is expected to take while none has run: it trains for three times the
epochs, with the uncompressed network beside it."""


@dataclass(slots=True, kw_only=True)
class Pace:
    """All in seconds. `time_s`: of the whole search. `reserve`: times the longest trial that the finalists need.

    `usual_s`, `longer_s`, `own_s`: the longest trial so far, of the second round, of a recipe as it is written. `look_s`: the longest
    look at an untrained candidate, which comes before its trial. `head_s`: the longest training of a student that is narrowed, which
    its trials take from the cache. `whole_s`: the uncompressed network.
    """

    clock: Callable[[], float]
    time_s: float
    reserve: float
    started: float = field(init=False)
    usual_s: float = 0.0
    longer_s: float = 0.0
    own_s: float = 0.0
    look_s: float = 0.0
    head_s: float = 0.0
    whole_s: float = 0.0
    recalled_s: float = 0.0
    """What the trial that ends next took in the search that is continued; it takes no time now, but the next one will."""

    def __post_init__(self) -> None:
        self.started = self.clock()

    def spent_s(self) -> float:
        """Since the beginning."""
        return self.clock() - self.started

    def add(self, began_s: float, *, longer: bool = False, own: bool = False) -> None:
        """A trial has ended that began that long after the beginning."""
        took = max(self.spent_s() - began_s, self.recalled_s)
        if own:
            self.own_s = max(self.own_s, took)
        elif longer:
            self.longer_s = max(self.longer_s, took)
        else:
            self.usual_s = max(self.usual_s, took)

    def add_look(self, began_s: float) -> None:
        """A look has ended that began that long after the beginning."""
        self.look_s = max(self.look_s, self.spent_s() - began_s)

    def time_left(self, part: float, *, longer: bool = False) -> bool:
        """Whether one more trial is expected to end in that part of the time for trials. `longer`: one of the second round."""
        return self._fits(self.look_s + self._expect(longer=longer), part, longer=longer)

    def time_for_own(self, part: float = 1.0) -> bool:
        """Whether one more recipe as it is written fits into that part of the time."""
        return self._fits(self.own_s, part, longer=False)

    def spent(self) -> float:
        """The part of the time for trials that is over."""
        return self.spent_s() / self._for_trials(longer=False)

    def _fits(self, seconds: float, part: float, *, longer: bool) -> bool:
        return self.spent_s() + seconds < part * self._for_trials(longer=longer)

    def _expect(self, *, longer: bool) -> float:
        return max(self.usual_s, self.longer_s or LONGER_TAKES * self.usual_s) if longer else self.usual_s

    def _for_trials(self, *, longer: bool) -> float:
        """The finalists are trained as the longest trial was, the one that is asked about included."""
        longest = max(self.own_s, self.head_s + max(self.longer_s, self._expect(longer=longer)))
        return max(1e-9, self.time_s - self.reserve * longest - self.whole_s)
