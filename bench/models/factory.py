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

ONLY = "only input_shape and classes are given, by name: give every other parameter a default"
HOW_TO_GIVE = {
    "input_shape": "its value comes from --dataset or --input-shape: name one of them, or give input_shape a default",
    "classes": "its value comes from a data set for classification: name one with --dataset, or give classes a default",
}
"""Parameter of a user's function -> what to do where it is required and not known."""


def build(model: Model, seed: int) -> nn.Module:
    """The torch module with seeded weights, in eval mode. The caller's random state is left as it was.

    A function of the user's own gets `input_shape` and `classes` if it has parameters of these names and they are known:
    one shape of inputs, and a data set that has classes. Else its own defaults hold.

    Raises `InvalidInput`: a file model; a factory that cannot be imported or called, or whose parameter without a
    default is not known; one that returns something other than an nn.Module; outputs that do not fit the data set's
    classes.
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
    ours = is_reference(model)
    named: dict[str, object] = {"input_shape": model.input_shape, "classes": model.classes}
    known = {key: value for key, value in named.items() if ours or value}  # else the function's own default holds
    offered = {**known, **dict(model.arguments)}
    arguments = {key: value for key, value in offered.items() if key in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        hint = next((HOW_TO_GIVE[key] for key in HOW_TO_GIVE if f"'{key}'" in str(error) and key not in known), ONLY)
        raise InvalidInput(f"{model.factory}{signature}: {error}; {hint}") from None
    return arguments
