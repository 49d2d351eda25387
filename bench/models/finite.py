"""Which tensors of a network may hold infinities: those that did before, as the mask of a transformer does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FINITE, INFINITE, BROKEN = range(3)


def find_broken(module: nn.Module, before: nn.Module, *, trained: bool) -> str:
    """The name of the first tensor that became NaN or infinite, "" where none did. `before`: the network it was made of.

    A tensor that `before` lacks may be infinite if nothing was trained: it is the mask of a network brought in.
    """
    known = before.state_dict()
    for name, value in module.state_dict().items():
        allowed = _worst(known[name]) if name in known else FINITE if trained else INFINITE
        if _worst(value) > allowed:
            return str(name)
    return ""


def _worst(value: Tensor) -> int:
    if bool(torch.isfinite(value).all()):
        return FINITE
    return BROKEN if bool(torch.isnan(value).any()) else INFINITE
