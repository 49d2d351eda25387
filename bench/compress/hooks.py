"""Hooks on a network's layers that are always removed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

Entering = Callable[[nn.Module, tuple[Any, ...]], Any]
"""(layer, its inputs) -> as many new inputs, or None to leave them. Those by keyword come last, in the order of the call."""
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
            hook = partial(_enter, before)
            stack.callback(layer.register_forward_pre_hook(hook, prepend=True, with_kwargs=True).remove)
        for layer, after in leaving:
            stack.callback(layer.register_forward_hook(partial(_leave, after), with_kwargs=True).remove)
        yield


def _enter(before: Entering, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    changed = before(layer, (*args, *kwargs.values()))
    return None if changed is None else (changed[: len(args)], dict(zip(kwargs, changed[len(args) :], strict=True)))


def _leave(after: Leaving, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return after(layer, (*args, *kwargs.values()), output)
