"""Builds the torch module of a `Model` by calling its factory, which may be the user's own code."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InvalidInput, PressbenchError, unknown
from bench.models.catalogue import is_reference
from bench.types import Model

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = {"site-packages", "dist-packages"}


def build(model: Model, seed: int) -> nn.Module:
    """The torch module with seeded weights, in eval mode. The caller's random state is left as it was.

    A function of the user's own gets `input_shape` and `classes` if it has parameters of these names.

    Raises `InvalidInput`: a file model; a factory that cannot be imported or called, or that returns
    something other than an nn.Module; outputs that do not fit the data set's classes.
    """
    import torch

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
        _check_outputs(model, module)
    return module


def load_factory(path: str) -> Callable[..., object]:
    """The function at `package.module:function`. Raises `InvalidInput` when it cannot be imported."""
    place, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*place.split("."), name]):
        raise InvalidInput(f"{path!r} is not an import path; write package.module:function")
    with users_code(f"{place!r} cannot be imported:"):
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise InvalidInput(f"{place!r} cannot be imported: {error}; is its folder on PYTHONPATH?") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise unknown(f"function of {place}", name, [key for key, value in vars(module).items() if callable(value)])
    function: Callable[..., object] = found
    return function


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Around a user's code: its errors become `InvalidInput` that names the user's file and line."""
    try:
        yield
    except PressbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{what} {type(error).__name__}: {error} ({_place(error)}); fix it there") from error


def _place(error: BaseException) -> str:
    """The user's file and line that an error comes from, not those of a library it called."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    standard = (__file__, "<", str(Path(inspect.__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = (
        frame
        for frame in reversed(frames)
        if not frame.filename.startswith(standard) and not LIBRARIES & set(Path(frame.filename).parts)
    )
    frame = next(theirs, frames[-1])
    return f"{frame.filename}, line {frame.lineno}"


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


def _check_outputs(model: Model, module: nn.Module) -> None:
    import torch

    with torch.no_grad(), users_code(f"{model.factory} does not run:"):
        try:
            outputs = module(torch.zeros(2, *model.input_shape))
        except RuntimeError as error:
            source = f" (those of data set {model.data!r})" if model.data else ""
            shape = f"{model.input_shape}{source}"
            raise InvalidInput(f"{model.factory} does not take inputs of shape {shape}: {error}") from None
    if not isinstance(outputs, torch.Tensor):
        raise InvalidInput(f"{model.factory} returns {type(outputs).__name__} for a batch; one tensor is wanted")
    if model.classes and tuple(outputs.shape) != (2, model.classes):
        raise InvalidInput(
            f"{model.factory} gives {tuple(outputs.shape)} for a batch of 2; "
            f"data set {model.data!r} needs (2, {model.classes})"
        )
