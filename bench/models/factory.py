"""Builds the torch module of a `Model` by calling its factory, which may be the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from bench.errors import InvalidInput
from bench.models.catalogue import is_reference
from bench.own_code import load_object, users_code
from bench.types import Model

if TYPE_CHECKING:
    from torch import nn


def build(model: Model, seed: int) -> nn.Module:
    """The torch module with seeded weights, in eval mode. The caller's random state is left as it was.

    A function of the user's own gets `input_shape` and `classes` if it has parameters of these names.

    Raises `InvalidInput`: a file model; a factory that cannot be imported or called, or that returns
    something other than an nn.Module; outputs that do not fit the data set's classes.
    """
    import torch

    from bench.models.own_network import adapt

    if model.factory is None:
        raise InvalidInput(f"{model.name} is a file, not a torch network: it is measured and quantized as it is")
    factory = load_factory(model.factory)
    if isinstance(factory, torch.nn.Module):
        raise InvalidInput(f"{model.factory} is a network; name a function that returns it")
    arguments = _accepted(model, factory)
    ours = is_reference(model)
    with torch.random.fork_rng(devices=[]), nullcontext() if ours else users_code(f"{model.factory} raised"):
        torch.manual_seed(seed)
        module = factory(**arguments)
        if not isinstance(module, torch.nn.Module):
            raise InvalidInput(f"{model.factory} returned {type(module).__name__}, not a torch.nn.Module")
        module.eval()
        if not ours:
            adapt(model, module)  # seeded too: lazy layers draw their weights at the first call
    return module


def load_factory(path: str) -> Callable[..., object]:
    """The function at `package.module:function`. Raises `InvalidInput` when it cannot be imported."""
    function: Callable[..., object] = load_object(path, "function")
    return function


def _accepted(model: Model, factory: Callable[..., object]) -> dict[str, object]:
    try:
        signature = inspect.signature(factory)
    except ValueError as error:
        raise InvalidInput(f"{model.factory} cannot be called: {error}; name a function of your own") from None
    offered: dict[str, object] = {"input_shape": model.input_shape, "classes": model.classes, **dict(model.arguments)}
    arguments = {key: value for key, value in offered.items() if key in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InvalidInput(f"{model.factory}{signature}: {error}; only input_shape and classes are given") from None
    return arguments
