"""Decompositions of weights in float64: singular values, and Tensorly's for kernels with four axes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from bench.compress.factorize.factorization import Array

SWEEPS = 50
"""Most rounds of alternating least squares for Tucker and CP."""


def array_of(weight: Tensor) -> Array:
    """The weight as a float64 array of its shape."""
    array: Array = weight.detach().double().numpy()
    return array


def share_of(full: int, ratio: float) -> int:
    """This share of a full rank, at least 1."""
    return max(1, round(full * ratio))


def smaller_product(matrix: Array) -> Array:
    """The matrix times its transpose, on the smaller side. Its eigenvalues are the squared singular values."""
    product: Array = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return product


def squared_singular_values(matrix: Array) -> Array:
    """Descending."""
    found: Array = np.maximum(np.linalg.eigvalsh(smaller_product(matrix))[::-1], 0.0)
    return found


def rank_keeping(squares: Array, energy: float) -> int:
    """How many of the largest squares make up this share of their sum, 0 to 1."""
    kept = np.cumsum(squares)
    return min(int(np.searchsorted(kept, energy * kept[-1])) + 1, len(kept))


@contextmanager
def tensorly_on_numpy() -> Iterator[Any]:
    """Tensorly with numpy arrays. Imports it late, which takes a second, and silences its warning about asking for more
    singular vectors than there are."""
    import tensorly
    import tensorly.decomposition

    with warnings.catch_warnings(), tensorly.backend_context("numpy"):
        warnings.filterwarnings("ignore", message="Trying to compute SVD", category=UserWarning)
        yield tensorly
