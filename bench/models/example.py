"""Seeded inputs to run a torch network with, where no data set gives them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.errors import InvalidInput
from bench.inputs.draw import draw_inputs
from bench.models.calls import index_limits
from bench.models.tensors import Inputs
from bench.types import AskedInput, Model, TensorSpec

SAMPLES = 2


def zeros(model: Model) -> Inputs:
    """A batch of two samples that every network takes: 0 is an index of every table.

    Raises `InvalidInput` for a type that torch lacks.
    """
    if not model.inputs:
        return (torch.zeros(SAMPLES, *model.input_shape),)
    return tuple(_zeros(item) for item in model.inputs)


def draw(model: Model, module: nn.Module, seed: int) -> Inputs:
    """A batch of two samples: floats from N(0, 1), indices that every table of the network has, truths that hold."""
    generator = torch.Generator().manual_seed(seed)
    empty = zeros(model)
    limits: tuple[int | None, ...] = (None,) * len(empty)
    if any(not one.is_floating_point() for one in empty):
        limits = index_limits(module, empty)
    return tuple(_draw(one, limit, generator) for one, limit in zip(empty, limits, strict=True))


def draw_like(specs: Sequence[TensorSpec], seed: int) -> Inputs:
    """A batch of two samples for a file's inputs, samples first: floats from N(0, 1), other values as the graph takes."""
    generator = torch.Generator().manual_seed(seed)
    arrays = draw_inputs(specs, SAMPLES, seed)
    return tuple(
        torch.randn(array.shape, generator=generator).to(torch.from_numpy(array).dtype)
        if array.dtype.kind == "f"
        else torch.from_numpy(array)
        for array in arrays
    )


def _zeros(item: AskedInput) -> Tensor:
    kind = getattr(torch, item.dtype or "float32", None)
    if not isinstance(kind, torch.dtype):
        raise InvalidInput(f"--input {item}: torch has no type {item.dtype}; give float32, int64 or bool")
    return torch.zeros([SAMPLES if size is None else size for size in item.sizes], dtype=kind)


def _draw(empty: Tensor, limit: int | None, generator: torch.Generator) -> Tensor:
    if empty.dtype == torch.bool:
        return torch.ones_like(empty)
    if empty.is_floating_point():
        return torch.randn(empty.shape, generator=generator).to(empty.dtype)
    return torch.randint(0, limit or 2, empty.shape, generator=generator, dtype=empty.dtype)
