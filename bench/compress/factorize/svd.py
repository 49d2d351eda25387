"""Singular values: a linear layer as two smaller ones, a convolution as fewer filters and a 1x1 convolution."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import scipy.linalg
from torch import nn

from bench.compress.factorize.chains import biased, chain_of, kernel_like, pointwise
from bench.compress.factorize.decompose import (
    array_of,
    rank_keeping,
    share_of,
    smaller_product,
    squared_singular_values,
)
from bench.compress.factorize.factorization import Array, Rank, Spectral
from bench.compress.layers import weight_of
from bench.compress.replace_layers import Price, Site


@final
class Svd(Spectral):
    """W = (U sqrt S)(sqrt S V'). A linear layer becomes two, a convolution one with fewer filters and a 1x1 one.

    The matrix of a kernel is (outputs, inputs x height x width), as in Zhang et al. 2016, arXiv:1505.06798.
    """

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """This share of min(outputs, inputs x kernel)."""
        return (share_of(min(_sides(layer)), ratio),)

    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Those of the one matrix."""
        return (squared_singular_values(_matrix(layer)),)

    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """The number of largest values that add up to this share."""
        del layer
        return (rank_keeping(energies[0], energy),)

    def price(self, site: Site, rank: Rank) -> Price:
        """Rank x (inputs x kernel + outputs) weights, each used once per output position."""
        params = rank[0] * sum(_sides(site.layer))
        return Price(params=params, macs=params * math.prod(site.outputs) * site.runs)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Two layers that share the singular values evenly."""
        del seed
        first, second = _halves(_matrix(layer), rank[0])
        if isinstance(layer, nn.Linear):
            bottom = nn.Linear(first.shape[1], rank[0], bias=False)
            return chain_of(layer, (bottom, first), (nn.Linear(rank[0], second.shape[0], bias=biased(layer)), second))
        assert isinstance(layer, nn.Conv2d)
        kernel = kernel_like(layer, layer.in_channels, rank[0])
        return chain_of(layer, (kernel, first), (pointwise(rank[0], layer.out_channels, bias=biased(layer)), second))


def _sides(layer: nn.Module) -> tuple[int, int]:
    weight = weight_of(layer)
    return weight.shape[0], weight.numel() // weight.shape[0]


def _matrix(layer: nn.Module) -> Array:
    return array_of(weight_of(layer)).reshape(_sides(layer))


def _halves(matrix: Array, rank: int) -> tuple[Array, Array]:
    """Factors of shape (rank, columns) and (rows, rank), of equal norms, whose product is nearest to the matrix.

    Computes only the leading eigenvectors: five times faster than all singular vectors for 2048 x 4608.
    """
    product = smaller_product(matrix)
    order = len(product)
    _, vectors = scipy.linalg.eigh(product, subset_by_index=[order - rank, order - 1])
    if order == matrix.shape[0]:
        first, second = vectors.T @ matrix, vectors
        norms = np.linalg.norm(first, axis=1)
    else:
        first, second = vectors.T, matrix @ vectors
        norms = np.linalg.norm(second, axis=0)
    root = np.sqrt(np.where(norms > 0, norms, 1.0))
    if order == matrix.shape[0]:
        return first / root[:, None], second * root
    return first * root[:, None], second / root
