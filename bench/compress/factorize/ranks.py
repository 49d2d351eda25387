"""Chooses the rank of each layer: by a share, by the energy it keeps, or by what the network may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.compress.factorize.factorization import Factorization, Rank, Spectral
from bench.compress.factorize.tucker import Tucker
from bench.compress.replace_layers import Price, Site

HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A layer at its site, and how to factorize it."""

    site: Site
    method: Factorization

    def price(self, rank: Rank) -> Price:
        """What the chain of this rank costs."""
        return self.method.price(self.site, rank)


Choice = Mapping[str, Rank | str]
"""Layer name -> its rank, or why it stays as it is."""


def by_share(places: Mapping[str, Place], ratio: float) -> Choice:
    """The same share of each layer's full rank."""
    return {
        name: _unless_it_grows(place, place.method.share(place.site.layer, ratio)) for name, place in places.items()
    }


def by_ranks(places: Mapping[str, Place], ranks: Mapping[str, int]) -> Choice:
    """The rank that is asked for each layer. `ranks`: one for each place."""
    return {name: _unless_it_grows(place, (ranks[name],)) for name, place in places.items()}


def by_energy(places: Mapping[str, Place], energy: float, seed: int) -> Choice:
    """The smallest rank of each layer that keeps this share of its squared weights."""
    found: dict[str, Rank | str] = {}
    for name, place in places.items():
        rank = place.method.energetic(place.site, energy, seed)
        found[name] = f"no smaller chain keeps {energy:g} of its squared weights"
        if rank is not None:
            found[name] = _unless_it_grows(place, rank)
    return found


def by_budget(places: Mapping[str, Place], budget: float) -> Choice:
    """Ranks at the highest energy, the same for all layers, at which they cost at most `budget` MACs together.

    Layers that would grow at that energy stay whole, and their MACs count. What CP keeps is known only by
    fitting, so CP gets the MACs that Tucker would use. If even rank 1 is over the budget, that is every layer's
    reason to stay.
    """
    plans = {name: _Plan(site=place.site, method=_spectral(place.method)) for name, place in places.items()}
    energies = {name: plan.method.energies(plan.site.layer) for name, plan in plans.items()}

    def ranks(energy: float) -> Mapping[str, Rank | None]:
        found = {name: plan.method.keeping(plan.site.layer, energies[name], energy) for name, plan in plans.items()}
        return {name: rank if plans[name].smaller(rank) else None for name, rank in found.items()}

    def cost(chosen: Mapping[str, Rank | None]) -> int:
        return sum(plans[name].macs(rank) for name, rank in chosen.items())

    if cost(ranks(0.0)) > budget:
        return dict.fromkeys(
            places,
            f"at rank 1 what can be factorized needs {cost(ranks(0.0))} MACs, and {max(budget, 0):.0f} are allowed",
        )
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(ranks(middle)) <= budget else (low, middle)
    return {name: _spent(places[name], plans[name], rank, low) for name, rank in ranks(low).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    site: Site
    method: Spectral

    def smaller(self, rank: Rank) -> bool:
        return self.method.price(self.site, rank).below(self.site.price)

    def macs(self, rank: Rank | None) -> int:
        """MACs of the chain of this rank; of the whole layer for None."""
        return (self.site.price if rank is None else self.method.price(self.site, rank)).macs


def _spectral(method: Factorization) -> Spectral:
    return method if isinstance(method, Spectral) else Tucker()


def _spent(place: Place, plan: _Plan, rank: Rank | None, energy: float) -> Rank | str:
    """The planned rank. A method without a plan of its own, CP, gets the largest rank for the planned MACs."""
    if rank is None:
        return f"it would grow at the energy of {energy:.3g} that the budget allows"
    if isinstance(place.method, Spectral):
        return rank
    allowed = plan.macs(rank) // place.price((1,)).macs
    return _unless_it_grows(place, (allowed,)) if allowed else f"even rank 1 costs over its {plan.macs(rank)} MACs"


def _unless_it_grows(place: Place, rank: Rank) -> Rank | str:
    before, after = place.site.price, place.price(rank)
    if after.below(before):
        return rank
    change = f"{before.params} -> {after.params} weights, {before.macs} -> {after.macs} MACs"
    return f"it would grow at rank {text(rank)}: {change}"


def text(rank: Rank) -> str:
    """As in `12x7`."""
    return "x".join(map(str, rank))
