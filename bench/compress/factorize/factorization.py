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
    """One way to write a layer's weight as a chain of smaller layers; biases stay on the last.

    Laws: `price` is what the chain of `build` costs; a higher rank never costs less.
    """

    @abstractmethod
    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """The rank that is this share of the full one, at least 1."""

    @abstractmethod
    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """The smallest rank whose chain keeps this share of the squared weights; None when no smaller chain does."""

    @abstractmethod
    def price(self, site: Site, rank: Rank) -> Price:
        """Of the chain at the layer's site."""

    @abstractmethod
    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """The chain."""


class Spectral(Factorization):
    """One whose loss at any rank the singular values of matrices tell, without computing the chain."""

    @abstractmethod
    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Squared singular values, descending, of each matrix that the rank truncates."""

    @abstractmethod
    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """The smallest rank that keeps this share of the squared weights, by these `energies` of the layer."""

    @final
    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """By the layer's energies."""
        del seed
        return self.keeping(site.layer, self.energies(site.layer), energy)
