"""Which candidates end before they are trained: those that no training can make the winner.

The cheapest fidelity of a trial, as the lowest rung of successive halving (Li et al. 2018, arXiv:1810.05934), but with a rule that
no rank among other trials decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.search.goal import MINIMIZED, UNITS, Goal
from bench.search.strategies.interface import Tried, cost_of, quality_loss

MARGIN = 1.1
"""Times the cost that would be hopeless: untrained candidates are timed in one launch, and launches of one file differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hopeless:
    """Why a candidate ends. `excess`: its cost over the one that it had to keep below, less 1."""

    why: str
    excess: float


def may_be_hopeless(family: str, whole: Tried, goal: Goal, tried: Sequence[Tried]) -> bool:
    """Whether a look can end a candidate of this family: without one, a narrowed network is cheaper than `whole`, which it is
    narrowed from."""
    best = _find_lossless(goal, tried)
    return goal.cost in goal.limits or (best is not None and (bool(family) or best is not whole))


def find_hopeless(cost: float, goal: Goal, tried: Sequence[Tried]) -> Hopeless | None:
    """Why a candidate of this cost, found before training, can never win; None where it can.

    It exceeds the limit of the cost. Or that cost is what is minimized, and `tried` has one that keeps every limit, loses nothing and
    is cheaper: the uncompressed network can be that one. It wins against the candidate whatever training does, and is before it on the
    front of all that loses anything.
    """
    unit, most = UNITS[goal.cost], goal.limits.get(goal.cost)
    if most is not None and cost > MARGIN * most:
        return Hopeless(why=f"{cost:.4g}{unit} untrained, {most:g} allowed", excess=cost / most - 1)
    best = _find_lossless(goal, tried)
    if best is None or cost <= MARGIN * cost_of(best):
        return None
    name = best.recipe or "the uncompressed network"
    why = f"{cost:.4g}{unit} untrained, and {name} loses nothing at {cost_of(best):.4g}{unit}"
    return Hopeless(why=why, excess=cost / cost_of(best) - 1)


def _find_lossless(goal: Goal, tried: Sequence[Tried]) -> Tried | None:
    """The cheapest that keeps every limit and loses nothing, where the cost is minimized."""
    if MINIMIZED.get(goal.minimize) != goal.cost:
        return None
    return min(
        (one for one in tried if one.counts and not one.over and quality_loss(one) <= 0), key=cost_of, default=None
    )
