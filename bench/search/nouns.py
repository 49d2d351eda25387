"""What a search chooses from: groups of tied channels, the layers that depend on them, and what a choice costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.line.probes.cuts import Shape

Choice = tuple[int, ...]
"""For each group, which of its widths is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that lose the same channels. `widths`: outputs it may have, narrowest first, the last all of them.

    `losses`: for each width, how much the network is expected to lose by it; only their differences and ratios count.
    `branch`: the last layer of the residual branch that goes where the first width, 0, is taken; "" where it is not 0.
    `rank`: its widths are the ranks of its one layer, which stays as it is at the last one.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    losses: tuple[float, ...]
    branch: str = ""
    rank: bool = False

    @property
    def whole(self) -> int:
        """How many outputs it has before anything goes."""
        return self.widths[-1]

    @property
    def kept(self) -> range:
        """Places of the widths with which the group stays, narrowest first."""
        return range(1 if self.branch else 0, len(self.widths))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The channels on one side of a layer. `per`: group -> channels that go here for each output that the group loses."""

    whole: int
    per: Mapping[int, float] = field(default_factory=dict)

    def at(self, gone: Mapping[int, int]) -> int:
        """How many channels are left when each group has lost `gone` outputs."""
        return self.whole - round(sum(ratio * gone.get(group, 0) for group, ratio in self.per.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution or linear layer of the network. `shape`: None for a kind that is not cut out and timed.

    `rank`: the group that is its rank, where it has one. At a lower rank two layers take its place; each is a `factor`, and is
    there only then.
    """

    name: str
    inputs: Side
    outputs: Side
    shape: Shape | None
    weights: int
    rank: int | None = None
    factor: bool = False

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups of channels that change it, in order; a factor's rank is one of them."""
        return tuple(sorted({*self.inputs.per, *self.outputs.per}))

    def shrinks(self, rank: int, gone: Mapping[int, int]) -> bool:
        """Whether two layers of that rank have fewer weights than it has, when each group has lost `gone` outputs."""
        inputs, outputs = self.inputs.at(gone), self.outputs.at(gone)
        rows = inputs * self.weights / (self.inputs.whole * self.outputs.whole)
        return rank * (rows + outputs) < rows * outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Unless:
    """What a layer costs by the widths of the two groups of `pair`, while the group `rank` is whole, at its place `last`; else
    nothing."""

    rank: int
    last: int
    pair: tuple[int, int]
    prices: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What choices cost: a constant, a price for each width of a group, one for each pair of widths of two groups, and what falls
    away at a lower rank."""

    constant: float
    single: Mapping[int, NDArray[np.float64]]
    pairs: Mapping[tuple[int, int], NDArray[np.float64]]
    unless: Sequence[Unless] = ()

    def of(self, choice: Sequence[int]) -> float:
        """The cost of one choice."""
        alone = sum(float(prices[choice[group]]) for group, prices in self.single.items())
        both = sum(float(prices[choice[one], choice[two]]) for (one, two), prices in self.pairs.items())
        there = (one for one in self.unless if choice[one.rank] == one.last)
        whole = sum(float(one.prices[choice[one.pair[0]], choice[one.pair[1]]]) for one in there)
        return self.constant + alone + both + whole


def gone_from(groups: Sequence[Group], choice: Sequence[int]) -> dict[int, int]:
    """Group -> how many outputs it loses."""
    return {place: group.whole - group.widths[choice[place]] for place, group in enumerate(groups)}


def whole_choice(groups: Sequence[Group]) -> Choice:
    """The choice that leaves the network as it is."""
    return tuple(len(group.widths) - 1 for group in groups)


def keep_text(groups: Sequence[Group], choice: Sequence[int]) -> tuple[str, ...]:
    """The argument `keep` of the step `widths` for a choice; () where nothing goes."""
    return tuple(
        f"{group.layers[0]}={group.widths[taken]}"
        for group, taken in zip(groups, choice, strict=True)
        if 0 < group.widths[taken] < group.whole and not group.rank
    )


def rank_text(groups: Sequence[Group], choice: Sequence[int]) -> tuple[str, ...]:
    """The argument `ranks` of the step `lowrank` for a choice; () where all are whole."""
    return tuple(
        f"{group.layers[0]}={group.widths[taken]}"
        for group, taken in zip(groups, choice, strict=True)
        if group.rank and group.widths[taken] < group.whole
    )


def drop_text(groups: Sequence[Group], choice: Sequence[int]) -> tuple[str, ...]:
    """The argument `drop` of the step `branches` for a choice; () where none goes."""
    return tuple(group.branch for group, taken in zip(groups, choice, strict=True) if not group.widths[taken])
