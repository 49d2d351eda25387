"""Several networks in one search: each has its turn within a part of the time, and the best one the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.networks.students import Student
from bench.search.prediction.board import Timer
from bench.search.prediction.counted import Counter
from bench.search.prediction.predict import Predictor
from bench.search.strategies.interface import Ended, Means, Scene, Tried, rank


@dataclass(slots=True, kw_only=True)
class Narrowed:
    """A network that is narrowed. `student`: None for the user's own. `whole`: it as it is. `timer`: the cost of its candidates.

    `scene`, `ended`: None before its turn, and where that was over before it began. `rest`: whether it has the rest of the time.
    """

    whole: Tried
    space: Space
    timer: Timer | Counter
    student: Student | None = None
    scene: Scene | None = None
    ended: Ended | None = None
    rest: bool = False

    def add(self, ended: Ended) -> None:
        """What its strategy tried, and why it ended. What an earlier one tried stays."""
        self.ended = replace(ended, tried=unique((*self.tried, *ended.tried)))

    @property
    def title(self) -> str:
        """Of the student; "" for the user's own network."""
        return "" if self.student is None else self.student.title

    @property
    def predictor(self) -> Predictor | None:
        """None before its turn, and for a strategy that asks for none."""
        return None if self.scene is None else self.scene.predictor

    @property
    def tried(self) -> tuple[Tried, ...]:
        """It as it is, and what was tried of it."""
        return (self.whole,) if self.ended is None else self.ended.tried


def within(means: Means, end: float) -> Means:
    """The same within a part of the time: all until `end`, from 0 to 1."""
    return replace(
        means,
        time_left=lambda part, *, longer=False: means.time_left(end * part, longer=longer),
        spent=lambda: means.spent() / end,
    )


def take_turns(
    line: Sequence[tuple[Student | Narrowed, float]],
    spent: Callable[[], float],
    open_: Callable[[Student | Narrowed, float], Narrowed | None],
    go_on: Callable[[Narrowed, Sequence[Narrowed], float], None],
    goal: Goal,
) -> list[Narrowed]:
    """Each network within its part of the time that is left; then the best one has all of it.

    `line`: with the share of each, of which only ratios count. `spent`: the part of the time that is over. `open_`: a network at the
    beginning of its turn, which ends at that part; None where there is no time for it. `go_on`: tries candidates of a network until
    that part, knowing what the others did. Of the best one it runs once more from the beginning: what is known is not measured a
    second time.
    """
    done: list[Narrowed] = []
    for place, (one, share) in enumerate(line):
        over = min(1.0, spent())
        end = over + (1 - over) * share / sum(other for _, other in line[place:])
        network = open_(one, end)
        if network is not None:
            go_on(network, done, end)
            done.append(network)
    best = find_owner(done, rank([one for network in done for one in network.tried], goal))
    if len(line) > 1 and best is not None:
        best.rest = True
        go_on(best, done, 1.0)
    return done


def unique(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Each once, in their order: a recipe as it is written may be what a strategy chose too."""
    found: dict[str, Tried] = {}
    for one in tried:
        found.setdefault(one.key, one)
    return tuple(found.values())


def find_owner(networks: Sequence[Narrowed], ranked: Sequence[Tried]) -> Narrowed | None:
    """Whose candidate is the best; None where that is a recipe as it is written, or where nothing keeps the limits."""
    return next((net for net in networks if ranked and ranked[0].key in {one.key for one in net.tried}), None)
