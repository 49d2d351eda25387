"""Lets torch-pruning see a GRU or RNN as one layer. torch unrolls it, and the library takes minutes for twenty steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_pruning.pruner.function import LSTMPruner

from bench.compress.hooks import hooked

UNROLLED = (nn.GRU, nn.RNN)


class InputsOnly(LSTMPruner):  # type: ignore[misc]  # the library has no types
    """Removes inputs of a GRU or RNN, whose weights have the names of an LSTM's. Its states stay."""

    TARGET_MODULES = UNROLLED

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        """Raises."""
        del idxs
        raise RuntimeError(f"the states of a {type(layer).__name__} cannot be removed")


class _OneStep(torch.autograd.Function):
    """Gives values as if they were made of `x` in one step of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        """The values as they are."""
        del ctx, x
        return tuple(value.clone() for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Never runs: only the graph is read."""
        raise NotImplementedError


@contextmanager
def unrolled_once(module: nn.Module) -> Iterator[None]:
    """While open, autograd's graph of the network has one step for each GRU and RNN."""
    layers = [layer for layer in module.modules() if isinstance(layer, UNROLLED)]
    with hooked((layer, _shorten) for layer in layers):
        yield


def _shorten(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    del layer
    if not isinstance(inputs[0], Tensor):  # a packed sequence
        return output
    values, structure = pytree.tree_flatten(output)
    return pytree.tree_unflatten(_OneStep.apply(inputs[0], *(value.detach() for value in values)), structure)  # type: ignore[no-untyped-call]
