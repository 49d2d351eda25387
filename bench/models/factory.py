"""Builds the torch module of a `Model` by calling its factory, which may be the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from bench.errors import InvalidInput
from bench.models.catalogue import is_reference
from bench.models.seeds import seeded
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

    The network is a copy of what the function returns. Raises `InvalidInput`: a file model; a factory that cannot be imported or called, or whose parameter without a
    default is not known; one that returns something other than an nn.Module; outputs that do not fit the data set's
    classes.
    """
    import torch

    from bench.models.own_network import adapt

    # The fast path reads the weights of a transformer past its layers, where no hook sees them.
    torch.backends.mha.set_fastpath_enabled(False)
    if model.factory is None:
        raise InvalidInput(f"{model.name} is a file, not a torch network: it is measured and quantized as it is")
    factory = load_factory(model.factory)
    if isinstance(factory, torch.nn.Module):
        raise InvalidInput(f"{model.factory} is a network; name a function that returns it")
    arguments = _accepted(model, factory)
    ours = is_reference(model)
    with seeded(seed), nullcontext() if ours else users_code(f"{model.factory} raised"):
        module = factory(**arguments)
        if not isinstance(module, torch.nn.Module):
            raise InvalidInput(f"{model.factory} returned {type(module).__name__}, not a torch.nn.Module")
        module = module if ours else _copied(module, str(model.factory))
        module.eval()
        if not ours:
            adapt(model, module)  # seeded too: lazy layers draw their weights at the first call
    return module


def _copied(module: nn.Module, who: str) -> nn.Module:
    """A copy: the function may give the same object every time, which an earlier call has trained or changed.

    The network itself where it has lazy layers, which have no weights to copy yet. What `torch.compile` made is taken without
    it. Raises `InvalidInput` for TorchScript, whose layers no step sees, and for a network that holds what cannot be copied, or
    whose hooks hold on to it, because every step changes a copy.
    """
    import torch
    from torch.nn.parameter import is_lazy

    from bench.models.copies import duplicate, find_bound_hook, without_compile, without_wrapper

    module = without_wrapper(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise InvalidInput(
            f"{who} returned TorchScript, whose layers cannot be seen; return the network that it was made of, or write a .pt2 "
            "with torch.export.save and name that file"
        )
    if hooked := find_bound_hook(module):
        raise InvalidInput(
            f"{who}: a hook on {hooked!r} is a lambda or an inner function that holds on to the network it was made for, and "
            "every step of a recipe works on a copy: register a method of the network, as self.layer.register_forward_hook("
            "self.keep)"
        )
    if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        return without_compile(module)
    try:
        return without_compile(duplicate(module))
    except Exception as error:  # any attribute of the user's may refuse
        raise InvalidInput(
            f"{who}: its network cannot be copied by copy.deepcopy, as every step of a recipe does: {error}; keep locks, open "
            "files and other handles out of the network"
        ) from error


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
