"""CP: a 1x1 convolution, one column filter and one row filter each, a 1x1 convolution back."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from torch import nn

from bench.compress.factorize.chains import biased, chain_of, kernel_like, pointwise
from bench.compress.factorize.decompose import SWEEPS, array_of, share_of, tensorly_on_numpy
from bench.compress.factorize.factorization import Array, Factorization, Rank
from bench.compress.layers import weight_of
from bench.compress.replace_layers import Price, Site

CHANGE = 1e-6
"""Ends the iteration when the relative error changes by less. CP converges slowly."""


@final
class Cp(Factorization):
    """1x1 to R channels, one column filter each, one row filter each, 1x1 back (CP, Lebedev et al. 2015)."""

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """This share of max(outputs, inputs), because a tensor's full CP rank is not known."""
        return (share_of(max(weight_of(layer).shape[:2]), ratio),)

    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """Found by fitting: doubles the rank until it keeps enough, then bisects."""
        each, whole = self.price(site, (1,)), site.price
        most = min((whole.params - 1) // each.params, (whole.macs - 1) // each.macs)
        weight = array_of(weight_of(site.layer))
        low, high = 0, min(1, most)
        while high and _lost(weight, high, seed) > 1 - energy:
            low, high = high, min(2 * high, most)
            if low == high:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _lost(weight, middle, seed) <= 1 - energy else (middle, high)
        return (high,) if high else None

    def price(self, site: Site, rank: Rank) -> Price:
        """Rank x (inputs + height + width + outputs) weights. Column filters run at output rows and input columns."""
        outputs, inputs, height, width = weight_of(site.layer).shape
        ends = inputs * math.prod(site.inputs) + outputs * math.prod(site.outputs)
        middle = height * site.outputs[0] * site.inputs[1] + width * math.prod(site.outputs)
        macs = rank[0] * (ends + middle) * site.runs
        return Price(params=rank[0] * (inputs + outputs + height + width), macs=macs)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Four layers, found by alternating least squares. They share each column's norm evenly."""
        assert isinstance(layer, nn.Conv2d)
        scales, columns = _parafac(array_of(layer.weight), rank[0], seed)
        outputs, inputs, rows, across = (column * scales**0.25 for column in columns)
        vertical = kernel_like(layer, rank[0], rank[0], axis=0)
        horizontal = kernel_like(layer, rank[0], rank[0], axis=1)
        return chain_of(
            layer,
            (pointwise(layer.in_channels, rank[0]), inputs.T),
            (vertical, rows.T),
            (horizontal, across.T),
            (pointwise(rank[0], layer.out_channels, bias=biased(layer)), outputs),
        )


def _lost(weight: Array, rank: int, seed: int) -> float:
    """The share of the squared weights that CP of this rank loses."""
    scales, (outputs, inputs, rows, across) = _parafac(weight, rank, seed)
    fitted = np.einsum("r,or,ir,hr,wr->oihw", scales, outputs, inputs, rows, across, optimize=True)
    return float(np.sum((weight - fitted) ** 2) / np.sum(weight**2))


def _parafac(weight: Array, rank: int, seed: int) -> tuple[Array, list[Array]]:
    """Norms of shape (R,), and unit columns for outputs, inputs, height and width, each of shape (side, R)."""
    with tensorly_on_numpy() as tensorly:
        scales, columns = tensorly.decomposition.parafac(
            weight, rank, n_iter_max=SWEEPS, tol=CHANGE, normalize_factors=True, random_state=seed
        )
    return scales, columns
