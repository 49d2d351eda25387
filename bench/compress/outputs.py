"""What a network returns, whatever its structure: all its tensors, and how far two such returns are apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.calls import tensors_of
from bench.models.tensors import Inputs


def outputs_of(module: nn.Module, example: Inputs) -> list[Tensor]:
    """All outputs for these inputs. Draws the same random numbers on every call and leaves torch's state as it was."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [*tensors_of(module(*example))]


def shapes_text(outputs: list[Tensor]) -> str:
    """The shapes of all outputs, as `(2, 10), (2, 8)`."""
    return ", ".join(str(tuple(one.shape)) for one in outputs)


def largest_difference(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference of two lists of tensors of equal shapes, each relative to the largest value of `wanted`.

    NaN at the same place in both counts as equal. NaN in one of them only counts as an infinite difference.
    """
    return max((_difference(one, other) for one, other in zip(got, wanted, strict=True)), default=0.0)


def _difference(got: Tensor, wanted: Tensor) -> float:
    if not wanted.numel():
        return 0.0
    got, wanted = got.double(), wanted.double()
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    off = torch.where(same, 0.0, (got - wanted).abs()).nan_to_num(nan=torch.inf)
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return float(off.max()) / (scale or 1.0)
