"""Tucker-2: a 1x1 convolution to fewer channels, the kernel between fewer, a 1x1 convolution back."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from torch import nn

from bench.compress.factorize.chains import biased, chain_of, kernel_like, pointwise
from bench.compress.factorize.decompose import (
    SWEEPS,
    array_of,
    rank_keeping,
    share_of,
    squared_singular_values,
    tensorly_on_numpy,
)
from bench.compress.factorize.factorization import Array, Rank, Spectral
from bench.compress.layers import weight_of
from bench.compress.replace_layers import Price, Site

CHANGE = 1e-4
"""Ends the iteration when the relative error changes by less. Tucker starts near its best."""


@final
class Tucker(Spectral):
    """1x1 to fewer channels, the kernel between fewer, 1x1 back (Tucker-2, Kim et al. 2016). Rank: (outputs, inputs)."""

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """This share of the outputs and of the inputs."""
        outputs, inputs, *kernel = weight_of(layer).shape
        return _possible(share_of(outputs, ratio), share_of(inputs, ratio), math.prod(kernel))

    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Those of the outputs against the rest, and of the inputs against the rest."""
        weight = array_of(weight_of(layer))
        modes = [np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in (0, 1)]
        return tuple(squared_singular_values(mode) for mode in modes)

    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """Each of the two modes may lose half, because the squared error is at most the sum of what both lose."""
        outputs, inputs = (rank_keeping(squares, 1 - (1 - energy) / 2) for squares in energies)
        return _possible(outputs, inputs, math.prod(weight_of(layer).shape[2:]))

    def price(self, site: Site, rank: Rank) -> Price:
        """For ranks (o, i): inputs x i weights at the inputs, i x o x kernel + o x outputs at the outputs."""
        outputs, inputs, *kernel = weight_of(site.layer).shape
        to, fro = rank
        before, after = inputs * fro, fro * to * math.prod(kernel) + to * outputs
        macs = before * math.prod(site.inputs) + after * math.prod(site.outputs)
        return Price(params=before + after, macs=macs * site.runs)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Three layers, found by higher-order orthogonal iteration from the singular vectors."""
        assert isinstance(layer, nn.Conv2d)
        with tensorly_on_numpy() as tensorly:
            (core, (outputs, inputs)), _ = tensorly.decomposition.partial_tucker(
                array_of(layer.weight), list(rank), modes=[0, 1], n_iter_max=SWEEPS, tol=CHANGE, random_state=seed
            )
        return chain_of(
            layer,
            (pointwise(layer.in_channels, rank[1]), inputs.T),
            (kernel_like(layer, rank[1], rank[0]), core),
            (pointwise(rank[0], layer.out_channels, bias=biased(layer)), outputs),
        )


def _possible(outputs: int, inputs: int, kernel: int) -> Rank:
    """Limits each rank to the product of the core's other sides, the most that an unfolding's rank can be."""
    return min(outputs, inputs * kernel), min(inputs, outputs * kernel)
