"""The headlines: for each model what to ship, as the terminal says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.advice import Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The headline of one model in one place. `verdict`: "ship", "keep" or "none"."""

    model: str
    where: str
    verdict: str
    advice: str


def write_headlines(advices: Sequence[Advice]) -> list[Card]:
    """One card for each, in order: a cell that is untrusted, over a budget or beyond the accuracy limit is in none."""
    return [
        Card(model=one.league.model, where=one.where, verdict=name_verdict(one), advice=one.text) for one in advices
    ]


def name_verdict(advice: Advice) -> str:
    """What kind of advice it is."""
    if advice.best is None:
        return "none"
    return "keep" if advice.best.baseline else "ship"
