"""Finds the first bad of a row of steps by judging few of them: a bisection in which a step may stay unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Literal

from bench.errors import PressbenchError
from bench.line.versus.until import Compared, Patience, launch_until
from bench.records import PairLaunch
from bench.stats import Ratio, ratio

State = Literal["good", "bad", "unknown", "skipped"]
TRIES = 3
"""How often the launches of `Patience` are made again for a step that stays unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of one step. `found`: its time over the good one's, None where nothing was measured.

    `reason`: why it is skipped, or known without measuring. `distrust`: why the ratio must not be believed.
    """

    place: int
    state: State
    found: Ratio | None = None
    reason: str = ""
    distrust: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`good`: the last good step; `suspects`: the first bad one, after those that could not be judged before it."""

    good: int
    suspects: tuple[int, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def first_bad(self) -> int | None:
        """The first bad step; None where skipped ones stand before it."""
        return self.suspects[0] if len(self.suspects) == 1 else None


def find_first_bad(count: int, judge: Callable[[int], Outcome]) -> Found:
    """Judges steps between 0, which is good, and `count` - 1, which is bad, until they meet.

    A step is taken as `git bisect` takes it: all before a good one are good, all after a bad one are bad; of a step
    that stays unknown nothing follows, and the nearest to it is judged in its place.
    """
    low, high, outcomes = 0, count - 1, dict[int, Outcome]()
    while left := [place for place in range(low + 1, high) if place not in outcomes]:
        middle = (low + high) / 2
        place = min(left, key=lambda one: abs(one - middle))
        outcomes[place] = judge(place)
        if outcomes[place].state == "good":
            low = place
        elif outcomes[place].state == "bad":
            high = place
    return Found(good=low, suspects=tuple(range(low + 1, high + 1)), outcomes=tuple(outcomes.values()))


def halfway(found: Ratio) -> float:
    """The share from which a step counts as bad: half of what bad lost, on a scale of logarithms."""
    return exp(log(found.ratio) / 2) - 1


def classify(found: Ratio, threshold: float) -> State:
    """Bad where the whole interval lies beyond 1 + `threshold`, good where it lies below, else unknown."""
    if found.low is None or found.high is None:
        return "unknown"
    if found.low > 1 + threshold:
        return "bad"
    return "good" if found.high < 1 + threshold else "unknown"


def judge_step(
    place: int,
    launch: Callable[[int], PairLaunch],
    threshold: float,
    patience: Patience,
    *,
    threads: int,
    progress: Callable[[float], None] = lambda _: None,
    tries: int = TRIES,
) -> Outcome:
    """Launches of a step beside the good one, and more of them while it stays unknown, `tries` times in all.

    A step whose launches fail is skipped with the reason.
    """
    pairs: tuple[PairLaunch, ...] = ()
    try:
        for _ in range(tries):
            done = launch_on(launch, pairs, patience, threads=threads, threshold=threshold, progress=progress)
            pairs = (*pairs, *done.pairs)
            found = ratio(pairs, threshold, threads=threads)
            if (state := classify(found, threshold)) != "unknown":
                break
    except PressbenchError as error:
        if pairs:
            raise
        return Outcome(place=place, state="skipped", reason=str(error))
    reason = "" if state != "unknown" else f"unknown after {len(pairs)} launches"
    distrust = tuple(dict.fromkeys(text for pair in pairs for text in pair.distrust))
    return Outcome(place=place, state=state, found=found, reason=reason, distrust=distrust)


def launch_on(
    launch: Callable[[int], PairLaunch],
    before: Sequence[PairLaunch],
    patience: Patience,
    *,
    threads: int,
    threshold: float,
    progress: Callable[[float], None],
) -> Compared:
    """`launch_until`, its launches numbered after those before."""
    return launch_until(
        lambda number: launch(number + len(before)),
        patience,
        threads=threads,
        smallest_effect=threshold,
        progress=progress,
    )
