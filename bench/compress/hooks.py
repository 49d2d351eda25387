"""Hooks on a network's layers that are always removed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Entering = Callable[[nn.Module, tuple[Any, ...]], Any]
"""(layer, its inputs) -> new inputs, or None to leave them."""
Leaving = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""(layer, its inputs, its output) -> a new output, or None to leave it."""


@contextmanager
def hooked(
    leaving: Iterable[tuple[nn.Module, Leaving]] = (), *, entering: Iterable[tuple[nn.Module, Entering]] = ()
) -> Iterator[None]:
    """While open, torch calls each hook when its layer runs: `entering` before it, `leaving` after it.

    `entering` sees the inputs in order, before a hook of `bench.models.calls` gives them as keywords.
    """
    with ExitStack() as stack:
        for layer, before in entering:
            stack.callback(layer.register_forward_pre_hook(before, prepend=True).remove)
        for layer, after in leaving:
            stack.callback(layer.register_forward_hook(after).remove)
        yield
