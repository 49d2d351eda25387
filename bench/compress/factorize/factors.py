"""Layers as products of smaller ones: singular values for matrices, Tucker-2 and CP for kernels of convolutions."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from bench.compress.layers import weight_of
from bench.compress.replace_layers import Price, Site

Rank = tuple[int, ...]
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
SWEEPS = 50
"""Rounds of alternating least squares for Tucker and CP."""
TUCKER_CHANGE = 1e-4
CP_CHANGE = 1e-6
"""The change of the relative error that ends them earlier. Tucker starts near its best, CP creeps."""


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


@final
class Svd(Spectral):
    """W = (U sqrt S)(sqrt S V'): a linear layer as two; a convolution as one with fewer filters and a 1x1 one.

    The kernel is the matrix (outputs, inputs x height x width), as in Zhang et al. 2016, arXiv:1505.06798.
    """

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of min(outputs, inputs x kernel)."""
        return (_part(min(_sides(layer)), ratio),)

    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Of the one matrix."""
        return (_squares(_matrix(layer)),)

    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """The first values that add up to it."""
        del layer
        return (_enough(energies[0], energy),)

    def price(self, site: Site, rank: Rank) -> Price:
        """Rank x (inputs x kernel + outputs) weights, each used once per output."""
        params = rank[0] * sum(_sides(site.layer))
        return Price(params=params, macs=params * math.prod(site.outputs) * site.calls)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Two layers, the singular values shared evenly between them."""
        del seed
        first, second = _halves(_matrix(layer), rank[0])
        if isinstance(layer, nn.Linear):
            bottom = nn.Linear(first.shape[1], rank[0], bias=False)
            return _chain(layer, (bottom, first), (nn.Linear(rank[0], second.shape[0], bias=_biased(layer)), second))
        assert isinstance(layer, nn.Conv2d)
        kernel = _like(layer, layer.in_channels, rank[0])
        return _chain(layer, (kernel, first), (_pointwise(rank[0], layer.out_channels, bias=_biased(layer)), second))


@final
class Tucker(Spectral):
    """1x1 to fewer channels, the kernel between fewer, 1x1 back (Tucker-2, Kim et al. 2016). Rank: (outputs, inputs)."""

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of the outputs and of the inputs."""
        outputs, inputs, *kernel = weight_of(layer).shape
        return _possible(_part(outputs, ratio), _part(inputs, ratio), math.prod(kernel))

    def energies(self, layer: nn.Module) -> tuple[Array, ...]:
        """Of the outputs against the rest and of the inputs against the rest."""
        weight = _array(weight_of(layer))
        modes = [np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in (0, 1)]
        return tuple(_squares(mode) for mode in modes)

    def keeping(self, layer: nn.Module, energies: tuple[Array, ...], energy: float) -> Rank:
        """Each of the two modes may lose half: the squared error is at most the sum of what both lose."""
        outputs, inputs = (_enough(squares, 1 - (1 - energy) / 2) for squares in energies)
        return _possible(outputs, inputs, math.prod(weight_of(layer).shape[2:]))

    def price(self, site: Site, rank: Rank) -> Price:
        """For ranks (o, i): inputs x i weights at the inputs, i x o x kernel + o x outputs at the outputs."""
        outputs, inputs, *kernel = weight_of(site.layer).shape
        to, fro = rank
        before, after = inputs * fro, fro * to * math.prod(kernel) + to * outputs
        macs = before * math.prod(site.inputs) + after * math.prod(site.outputs)
        return Price(params=before + after, macs=macs * site.calls)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Three layers, by higher-order orthogonal iteration from the singular vectors."""
        assert isinstance(layer, nn.Conv2d)
        with _tensorly() as tensorly:
            (core, (outputs, inputs)), _ = tensorly.decomposition.partial_tucker(
                _array(layer.weight), list(rank), modes=[0, 1], n_iter_max=SWEEPS, tol=TUCKER_CHANGE, random_state=seed
            )
        return _chain(
            layer,
            (_pointwise(layer.in_channels, rank[1]), inputs.T),
            (_like(layer, rank[1], rank[0]), core),
            (_pointwise(rank[0], layer.out_channels, bias=_biased(layer)), outputs),
        )


@final
class Cp(Factorization):
    """1x1 to R channels, one column filter each, one row filter each, 1x1 back (CP, Lebedev et al. 2015)."""

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of max(outputs, inputs): CP has no full rank that is easily known."""
        return (_part(max(weight_of(layer).shape[:2]), ratio),)

    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """Found by fitting: ranks doubled until one keeps enough, then halved in between."""
        each, whole = self.price(site, (1,)), site.price
        most = min((whole.params - 1) // each.params, (whole.macs - 1) // each.macs)
        weight = _array(weight_of(site.layer))
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
        """Rank x (inputs + height + width + outputs) weights; the column filters run at output rows and input columns."""
        outputs, inputs, height, width = weight_of(site.layer).shape
        ends = inputs * math.prod(site.inputs) + outputs * math.prod(site.outputs)
        middle = height * site.outputs[0] * site.inputs[1] + width * math.prod(site.outputs)
        macs = rank[0] * (ends + middle) * site.calls
        return Price(params=rank[0] * (inputs + outputs + height + width), macs=macs)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Four layers, by alternating least squares; each column's norm is spread evenly over the four."""
        assert isinstance(layer, nn.Conv2d)
        scales, columns = _parafac(_array(layer.weight), rank[0], seed)
        outputs, inputs, rows, across = (column * scales**0.25 for column in columns)
        vertical = _like(layer, rank[0], rank[0], axis=0)
        horizontal = _like(layer, rank[0], rank[0], axis=1)
        return _chain(
            layer,
            (_pointwise(layer.in_channels, rank[0]), inputs.T),
            (vertical, rows.T),
            (horizontal, across.T),
            (_pointwise(rank[0], layer.out_channels, bias=_biased(layer)), outputs),
        )


def _array(weight: Tensor) -> Array:
    return weight.detach().double().numpy()


def _sides(layer: nn.Module) -> tuple[int, int]:
    weight = weight_of(layer)
    return weight.shape[0], weight.numel() // weight.shape[0]


def _matrix(layer: nn.Module) -> Array:
    return _array(weight_of(layer)).reshape(_sides(layer))


def _part(full: int, ratio: float) -> int:
    return max(1, round(full * ratio))


def _possible(outputs: int, inputs: int, kernel: int) -> Rank:
    """A core's unfolding has at most as many rows as the product of its other sides."""
    return min(outputs, inputs * kernel), min(inputs, outputs * kernel)


def _smaller_product(matrix: Array) -> Array:
    """The matrix times itself, of the order of its smaller side: its eigenvalues are the squared singular values."""
    product: Array = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return product


def _squares(matrix: Array) -> Array:
    """Squared singular values, descending."""
    squares: Array = np.maximum(np.linalg.eigvalsh(_smaller_product(matrix))[::-1], 0.0)
    return squares


def _halves(matrix: Array, rank: int) -> tuple[Array, Array]:
    """(rank, columns) and (rows, rank), whose product is nearest to the matrix, of equal norms.

    From the leading eigenvectors alone, which is five times faster (2048 x 4608) than all singular vectors.
    """
    product = _smaller_product(matrix)
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


def _enough(squares: Array, energy: float) -> int:
    """How many of the largest make up this share of their sum."""
    kept = np.cumsum(squares)
    return min(int(np.searchsorted(kept, energy * kept[-1])) + 1, len(kept))


def _lost(weight: Array, rank: int, seed: int) -> float:
    """Share of the squared weights that CP of this rank misses."""
    scales, (outputs, inputs, rows, across) = _parafac(weight, rank, seed)
    fitted = np.einsum("r,or,ir,hr,wr->oihw", scales, outputs, inputs, rows, across, optimize=True)
    return float(np.sum((weight - fitted) ** 2) / np.sum(weight**2))


def _parafac(weight: Array, rank: int, seed: int) -> tuple[Array, list[Array]]:
    """Norms (R,) and unit columns of the outputs, inputs, height and width, (side, R) each."""
    with _tensorly() as tensorly:
        scales, columns = tensorly.decomposition.parafac(
            weight, rank, n_iter_max=SWEEPS, tol=CP_CHANGE, normalize_factors=True, random_state=seed
        )
    return scales, columns


@contextmanager
def _tensorly() -> Iterator[Any]:
    """Imported by those who need it: it takes a second. Asks for more singular vectors than there are, and warns."""
    import tensorly
    import tensorly.decomposition

    with warnings.catch_warnings(), tensorly.backend_context("numpy"):
        warnings.filterwarnings("ignore", message="Trying to compute SVD", category=UserWarning)
        yield tensorly


def _biased(layer: nn.Module) -> bool:
    return layer.bias is not None


def _pointwise(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def _like(layer: nn.Conv2d, inputs: int, outputs: int, axis: int | None = None) -> nn.Conv2d:
    """The same windows over other channels; with `axis` only along it, one filter a channel."""

    def along(values: tuple[int, ...], neutral: int) -> tuple[int, int]:
        pair = tuple(value if axis in (None, index) else neutral for index, value in enumerate(values))
        return cast("tuple[int, int]", pair)

    padding = layer.padding
    return nn.Conv2d(
        inputs,
        outputs,
        along(layer.kernel_size, 1),
        stride=along(layer.stride, 1),
        padding=padding if isinstance(padding, str) else along(padding, 0),
        dilation=along(layer.dilation, 1),
        groups=1 if axis is None else inputs,
        bias=False,
        padding_mode=layer.padding_mode,
    )


def _chain(layer: nn.Module, *parts: tuple[nn.Module, Array]) -> nn.Sequential:
    """The parts with their weights, the layer's own bias on the last one."""
    for part, values in parts:
        weight = weight_of(part)
        weight.data = torch.from_numpy(np.ascontiguousarray(values)).reshape(weight.shape).to(weight_of(layer).dtype)
    if _biased(layer):
        assert isinstance(layer.bias, Tensor)
        parts[-1][0].bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(*(part for part, _ in parts))
