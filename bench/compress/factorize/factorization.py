"""A layer's weight as a chain of smaller layers: the interface of all ways to do it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from torch import nn

from bench.compress.replace_layers import Price, Site

Rank = tuple[int, ...]
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Factorization(ABC):
    """One way to write a layer's weight as a chain of smaller layers. The bias goes to the last one.

    Laws: `price` is what the chain that `build` returns costs. A higher rank never costs less.
    """

    @abstractmethod
    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """The rank that is this share of the full one, at least 1."""

    @abstractmethod
    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """The smallest rank whose chain keeps this share of the squared weights; None if the chain would not be smaller."""

    @abstractmethod
    def price(self, site: Site, rank: Rank) -> Price:
        """What the chain of this rank costs at the layer's site."""

    @abstractmethod
    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """The chain of this rank, with the layer's weights factorized into it."""


class Spectral(Factorization):
    """A factorization whose loss at every rank the singular values give, without building the chain."""

    @abstractmethod
    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Squared singular values, descending, of each matrix that a rank truncates."""

    @abstractmethod
    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """The smallest rank that keeps this share of the squared weights. `energies`: those of the layer."""

    @final
    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """The smallest rank by the layer's singular values."""
        del seed
        return self.keeping(site.layer, self.energies(site.layer), energy)
