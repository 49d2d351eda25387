"""Layers as products of smaller ones: singular values for matrices, Tucker-2 and CP for kernels of convolutions."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from bench.compress.layers import weight_of
from bench.compress.surgery import Price, Site

Rank = tuple[int, ...]
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
SWEEPS = 50
"""Rounds of alternating least squares for Tucker and CP."""
TOLERANCE = 1e-6
"""Their relative change of the error that ends it earlier."""


class Factorization(ABC):
    """One way to write a layer's weight as a chain of smaller layers; biases stay on the last.

    Laws: `price` is what the chain of `build` costs; a higher rank never costs less.
    """

    @abstractmethod
    def ranks(self, layer: nn.Module) -> Iterator[Rank]:
        """Every rank worth trying, ascending, until the chain cannot be smaller than the layer."""

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


@final
class Svd(Factorization):
    """W = (U sqrt S)(sqrt S V'): a linear layer as two; a convolution as one with fewer filters and a 1x1 one.

    The kernel is the matrix (outputs, inputs x height x width), as in Zhang et al. 2016, arXiv:1505.06798.
    """

    def ranks(self, layer: nn.Module) -> Iterator[Rank]:
        """From 1 to full."""
        return ((rank,) for rank in range(1, min(_sides(layer)) + 1))

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of min(outputs, inputs x kernel)."""
        return (_part(min(_sides(layer)), ratio),)

    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """Of the singular values' squares."""
        del seed
        return (_enough(np.linalg.svd(_matrix(site.layer), compute_uv=False), energy),)

    def price(self, site: Site, rank: Rank) -> Price:
        """Rank x (inputs x kernel + outputs) weights, each used once per output."""
        params = rank[0] * sum(_sides(site.layer))
        return Price(params=params, macs=params * math.prod(site.outputs))

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Two layers, the singular values halved between them."""
        del seed
        u, s, v = np.linalg.svd(_matrix(layer), full_matrices=False)
        root = np.sqrt(s[: rank[0]])
        first, second = root[:, None] * v[: rank[0]], u[:, : rank[0]] * root
        if isinstance(layer, nn.Linear):
            bottom = nn.Linear(first.shape[1], rank[0], bias=False)
            return _chain(layer, (bottom, first), (nn.Linear(rank[0], second.shape[0], bias=_biased(layer)), second))
        assert isinstance(layer, nn.Conv2d)
        kernel = _like(layer, layer.in_channels, rank[0])
        return _chain(layer, (kernel, first), (_pointwise(rank[0], layer.out_channels, bias=_biased(layer)), second))


@final
class Tucker(Factorization):
    """1x1 to fewer channels, the kernel between fewer, 1x1 back (Tucker-2, Kim et al. 2016). Rank: (outputs, inputs)."""

    def ranks(self, layer: nn.Module) -> Iterator[Rank]:
        """Both ranks in proportion to the channels."""
        outputs, inputs, *kernel = weight_of(layer).shape
        most = max(outputs, inputs)
        for step in range(1, most + 1):
            yield _possible(math.ceil(step * outputs / most), math.ceil(step * inputs / most), math.prod(kernel))

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of the outputs and of the inputs."""
        outputs, inputs, *kernel = weight_of(layer).shape
        return _possible(_part(outputs, ratio), _part(inputs, ratio), math.prod(kernel))

    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """Each of the two modes may lose half: the squared error is at most the sum of what both lose."""
        del seed
        weight = _array(weight_of(site.layer))
        modes = [np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in (0, 1)]
        each = 1 - (1 - energy) / 2
        outputs, inputs = (_enough(np.linalg.svd(mode, compute_uv=False), each) for mode in modes)
        return _possible(outputs, inputs, math.prod(weight.shape[2:]))

    def price(self, site: Site, rank: Rank) -> Price:
        """For ranks (o, i): inputs x i weights at the inputs, i x o x kernel + o x outputs at the outputs."""
        outputs, inputs, *kernel = weight_of(site.layer).shape
        to, fro = rank
        before, after = inputs * fro, fro * to * math.prod(kernel) + to * outputs
        macs = before * math.prod(site.inputs) + after * math.prod(site.outputs)
        return Price(params=before + after, macs=macs)

    def build(self, layer: nn.Module, rank: Rank, seed: int) -> nn.Sequential:
        """Three layers, by higher-order orthogonal iteration from the singular vectors."""
        assert isinstance(layer, nn.Conv2d)
        with _tensorly() as tensorly:
            (core, (outputs, inputs)), _ = tensorly.decomposition.partial_tucker(
                _array(layer.weight), list(rank), modes=[0, 1], n_iter_max=SWEEPS, tol=TOLERANCE, random_state=seed
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

    def ranks(self, layer: nn.Module) -> Iterator[Rank]:
        """Up to as many weights as the layer has."""
        shape = weight_of(layer).shape
        return ((rank,) for rank in range(1, math.prod(shape) // sum(shape) + 1))

    def share(self, layer: nn.Module, ratio: float) -> Rank:
        """Of max(outputs, inputs): CP has no full rank that is easily known."""
        return (_part(max(weight_of(layer).shape[:2]), ratio),)

    def energetic(self, site: Site, energy: float, seed: int) -> Rank | None:
        """Found by fitting: ranks doubled until one keeps enough, then halved in between."""
        most = max((rank for (rank,) in self.ranks(site.layer)), default=0)
        while most and not self.price(site, (most,)).below(site.price):
            most -= 1
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
        return Price(params=rank[0] * (inputs + outputs + height + width), macs=rank[0] * (ends + middle))

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


def _enough(singular: Array, energy: float) -> int:
    """How many of the largest values have this share of the sum of squares."""
    kept = np.cumsum(singular**2)
    return int(np.searchsorted(kept, energy * kept[-1])) + 1


def _lost(weight: Array, rank: int, seed: int) -> float:
    """Share of the squared weights that CP of this rank misses."""
    scales, (outputs, inputs, rows, across) = _parafac(weight, rank, seed)
    fitted = np.einsum("r,or,ir,hr,wr->oihw", scales, outputs, inputs, rows, across, optimize=True)
    return float(np.sum((weight - fitted) ** 2) / np.sum(weight**2))


def _parafac(weight: Array, rank: int, seed: int) -> tuple[Array, list[Array]]:
    """Norms (R,) and unit columns of the outputs, inputs, height and width, (side, R) each."""
    with _tensorly() as tensorly:
        scales, columns = tensorly.decomposition.parafac(
            weight, rank, n_iter_max=SWEEPS, tol=TOLERANCE, normalize_factors=True, random_state=seed
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
