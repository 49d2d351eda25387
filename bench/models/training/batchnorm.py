"""Gives an untrained network BatchNorm statistics that keep its outputs finite."""

from __future__ import annotations

import torch
from torch import nn

EXAMPLES = 8


def settle(module: nn.Module, input_shape: tuple[int, ...], seed: int) -> None:
    """Sets BatchNorm's running statistics, in place, to those of 8 seeded N(0, 1) inputs of `input_shape`."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - torch has no public base class
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module(torch.randn(EXAMPLES, *input_shape, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
