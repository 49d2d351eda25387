"""An input or an output of a model file, as the file declares it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Dim = int | str | None
"""A size; the symbol of a free one; None for a free one without a symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """`dtype`: numpy's name. `integers` and `is_mask`: as in `bench.types.TensorSpec`."""

    name: str
    dims: tuple[Dim, ...]
    dtype: str = "float32"
    integers: tuple[int, int] | None = None
    is_mask: bool = False


def describe(dims: Sequence[Dim]) -> str:
    """Sizes in words: free ones by their symbol, "?" without one."""
    return ", ".join("?" if dim is None else str(dim) for dim in dims)
