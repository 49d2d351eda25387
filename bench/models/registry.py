"""Which networks exist, how a text becomes a `Model`, and how a `Model` becomes a torch module."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config.grammar import Call, Value, parse_call
from bench.errors import InvalidInput, PressbenchError, unknown
from bench.models.catalogue import MODELS, Entry, Training
from bench.types import Model, Scalar

if TYPE_CHECKING:
    from torch import nn

    from bench.data.datasets import Dataset

__all__ = ["MODELS", "build", "load_factory", "resolve", "told_apart", "training_of"]

FILE_SUFFIXES = (".onnx", ".tflite")
WIDTHS = (0.05, 4.0)
SIDES = (4, 1024)
NO_CALL = re.compile(r"[^(]*[./\\]")
"""A path or a dotted name, where a reference network's name has letters and arguments alone."""
LIBRARIES = {"site-packages", "dist-packages"}


def resolve(
    text: str, data: Dataset | None = None, *, input_shape: tuple[int, ...] | None = None, weights: Path | None = None
) -> Model:
    """The model a text names: `resnet8`, `mobilenetv2(width=0.35, size=96)`, `package.module:function`,
    or a path ending in .onnx or .tflite (its `input_shape` stays () unless given: the file knows it).

    The data set gives input shape and classes; without it a reference network has its own.

    Raises `InvalidInput`: unknown name or argument, a shape that contradicts the data set, a missing file.
    """
    shape = _shape(text, data, input_shape)
    if weights is not None and not weights.is_file():
        raise InvalidInput(f"weights file {weights} does not exist")
    if text.endswith(FILE_SUFFIXES):
        return _file_model(text, data, shape, weights)
    if ":" in text:
        return _own_model(text, data, shape, weights)
    if NO_CALL.match(text):
        raise InvalidInput(
            f"model {text!r} is neither a reference network, package.module:function, FILE.onnx nor FILE.tflite; "
            "a checkpoint goes into --weights, beside the function that builds its network"
        )
    return _reference_model(parse_call(text), data, shape, weights)


def _shape(text: str, data: Dataset | None, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    if asked is not None and (not asked or min(asked) < 1):
        raise InvalidInput(f"input shape {asked} of {text!r}: wanted positive sizes without the batch, as 3,224,224")
    if data is None or text.endswith(FILE_SUFFIXES):
        return asked or ()
    if asked is not None and asked != data.input_shape:
        raise InvalidInput(
            f"input shape {asked} of {text!r} contradicts data set {data.name!r}: {data.input_shape}; "
            "name a data set of that shape, or none by --dataset ''"
        )
    return data.input_shape


def _file_model(text: str, data: Dataset | None, shape: tuple[int, ...], weights: Path | None) -> Model:
    file = Path(text)
    if not file.is_file():
        raise InvalidInput(f"model file {text} does not exist")
    if weights is not None:
        raise InvalidInput(f"{text} holds its own weights; {weights} cannot be loaded into it")
    classes, name = (data.classes, data.name) if data else (0, None)
    return Model(name=file.name, file=file, input_shape=shape, classes=classes, data=name)


def told_apart(models: Sequence[Model]) -> list[Model]:
    """The same models; files of one base name are named by as much of their paths as tells them apart."""
    paths = {model.file: model.file.absolute().parts for model in models if model.file is not None}
    return [replace(model, name=_tail(paths, model.file)) if model.file is not None else model for model in models]


def _tail(paths: Mapping[Path, tuple[str, ...]], file: Path) -> str:
    """The shortest end of a path that no other of `paths` has; a path that is there twice keeps its base name."""
    mine, others = paths[file], [path for path in paths.values() if path != paths[file]]
    size = next(size for size in range(1, len(mine) + 1) if all(path[-size:] != mine[-size:] for path in others))
    return "/".join(mine[-size:])


def _own_model(text: str, data: Dataset | None, shape: tuple[int, ...], weights: Path | None) -> Model:
    if not shape:
        raise InvalidInput(f"{text!r} needs an input shape: name a data set, or give the shape (as 3,224,224)")
    classes, name = (data.classes, data.name) if data else (0, None)
    return Model(name=text, factory=text, weights=weights, input_shape=shape, classes=classes, data=name)


def _reference_model(call: Call, data: Dataset | None, shape: tuple[int, ...], weights: Path | None) -> Model:
    if call.name not in MODELS:
        raise unknown("model", call.name, [*MODELS, "package.module:function", "FILE.onnx", "FILE.tflite"])
    entry = MODELS[call.name]
    allowed = [name for name, takes in (("width", entry.width), ("size", entry.size)) if takes]
    for key, _ in call.arguments:
        if key not in allowed:
            raise unknown(f"argument of {call.name}", key, allowed)
    given = dict(call.arguments)
    width = _number(call.name, "width", given.get("width", 1.0), WIDTHS)
    shape = _sized(call.name, entry, given.get("size"), shape)
    arguments: tuple[tuple[str, Scalar], ...] = () if width == 1.0 else (("width", width),)
    text = arguments if "size" not in given else (*arguments, ("size", given["size"]))
    return Model(
        name=str(Call(name=call.name, arguments=text)),
        factory=entry.factory,
        arguments=arguments,
        weights=weights,
        input_shape=shape,
        classes=data.classes if data else entry.classes,
        data=data.name if data else None,
    )


def _number(model: str, key: str, value: Value, bounds: tuple[float, float]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput(f"{key} of {model} must be a number, not {value!r}")
    if not bounds[0] <= value <= bounds[1]:
        raise InvalidInput(f"{key}={value} of {model} is outside {bounds[0]}..{bounds[1]}")
    return float(value)


def _sized(model: str, entry: Entry, size: Value, shape: tuple[int, ...]) -> tuple[int, ...]:
    if size is None:
        return shape or entry.input_shape
    side = _number(model, "size", size, SIDES)
    if side != int(side):
        raise InvalidInput(f"size={size} of {model} must be a whole number of pixels")
    if shape and shape[1:] != (int(side), int(side)):
        raise InvalidInput(f"size={size} of {model} contradicts the inputs' shape {shape}")
    return shape or (entry.input_shape[0], int(side), int(side))


def training_of(model: Model) -> Training:
    """The settings a network is trained with; the defaults for a network of the user's own."""
    return next((entry.training for entry in MODELS.values() if entry.factory == model.factory), Training())


def build(model: Model, seed: int) -> nn.Module:
    """The torch module with seeded weights, in eval mode. The caller's random state is left as it was.

    A function of the user's own is given `input_shape` and `classes` if it has parameters of these names.

    Raises `InvalidInput`: a file model, a factory that cannot be imported, called, or that returns something
    else than an nn.Module; outputs that do not fit the data set's classes.
    """
    import torch

    if model.factory is None:
        raise InvalidInput(f"{model.name} is a file, not a torch network: it is measured and quantized as it is")
    factory = load_factory(model.factory)
    if isinstance(factory, torch.nn.Module):
        raise InvalidInput(f"{model.factory} is a network; name a function that returns it")
    arguments = _accepted(model, factory)
    ours = model.factory in {entry.factory for entry in MODELS.values()}
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
    """The function at `package.module:function`. Raises `InvalidInput` for whatever keeps it from being imported."""
    place, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*place.split("."), name]):
        raise InvalidInput(f"{path!r} is no import path; write package.module:function")
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
    """Around code of the user's own: an error of its own becomes `InvalidInput` that names the file and line."""
    try:
        yield
    except PressbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{what} {type(error).__name__}: {error} ({_place(error)}); mend it there") from error


def _place(error: BaseException) -> str:
    """File and line of the user's that an error comes from, not of a library it called."""
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
