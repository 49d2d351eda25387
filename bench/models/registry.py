"""How the text that names a network becomes a `Model`: a reference network, a function, or a file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config.grammar import Call, Value, parse_call
from bench.errors import InvalidInput, unknown
from bench.inputs.layout import FIRST, looks_last, turned
from bench.models.catalogue import MODELS, Entry
from bench.models.compiled import SUFFIX, refuse_pte
from bench.types import AskedInput, Model, Scalar

if TYPE_CHECKING:
    from bench.data.datasets import Dataset

FILE_SUFFIXES = (".onnx", ".tflite", ".pt2")
WIDTHS = (0.05, 4.0)
SIDES = (4, 1024)
NO_CALL = re.compile(r"[^(]*[./\\]")
"""A path or a dotted name; the name of a reference network has neither dots nor slashes before its arguments."""


def resolve(
    text: str,
    data: Dataset | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: Path | None = None,
    train: bool = False,
) -> Model:
    """The model a text names: `resnet8`, `mobilenetv2(width=0.35, size=96)`, `package.module:function`,
    or a path ending in .onnx, .tflite or .pt2 (its `input_shape` stays () unless given: the file knows it).

    The data set gives input shape and classes; without it a reference network has its own.
    `train`: the network of a function is trained on the data set. It means nothing for a reference network, which
    is trained anyway, and for a file.

    Raises `InvalidInput`: unknown name or argument, a shape that contradicts the data set, a missing file;
    `Unsupported` for a .pte, which is compiled already.
    """
    shape = _shape(text, data, input_shape)
    if weights is not None and not weights.is_file():
        raise InvalidInput(f"weights file {weights} does not exist")
    if text.endswith(FILE_SUFFIXES):
        return _file_model(text, data, shape, weights)
    if text.endswith(SUFFIX):
        refuse_pte(Path(text))
    if ":" in text:
        return _own_model(text, data, shape, weights, train=train)
    if NO_CALL.match(text):
        raise InvalidInput(
            f"model {text!r} is neither a reference network, package.module:function, FILE.onnx, FILE.pt2 nor FILE.tflite; "
            "a checkpoint goes into --weights, beside the function that builds its network"
        )
    return _reference_model(parse_call(text), data, shape, weights)


def names_reference(text: str) -> bool:
    """Whether a text means one of our networks, not a user's file or function."""
    return not text.endswith(FILE_SUFFIXES) and ":" not in text


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
    return turned(data.input_shape, _layout(text, data))


def _layout(text: str, data: Dataset | None) -> str:
    """What the images of a data set are turned to for a reference network, which takes channels first."""
    return FIRST if data is not None and names_reference(text) and looks_last(data.input_shape) else ""


def _file_model(text: str, data: Dataset | None, shape: tuple[int, ...], weights: Path | None) -> Model:
    file = Path(text)
    if not file.is_file():
        raise InvalidInput(f"model file {text} does not exist")
    if weights is not None:
        raise InvalidInput(f"{text} holds its own weights; {weights} cannot be loaded into it")
    classes, name = (data.classes, data.name) if data else (0, None)
    return Model(name=file.name, file=file, input_shape=shape, classes=classes, data=name)


def tell_apart(models: Sequence[Model]) -> list[Model]:
    """The same models, renamed where needed: files of one base name get as much of their paths as makes names differ."""
    paths = {model.brought: model.brought.absolute().parts for model in models if model.brought is not None}
    return [replace(model, name=_tail(paths, model.brought)) if model.brought else model for model in models]


def _tail(paths: Mapping[Path, tuple[str, ...]], file: Path) -> str:
    """The shortest end of a path that no other of `paths` has; a path that is there twice keeps its base name."""
    mine, others = paths[file], [path for path in paths.values() if path != paths[file]]
    size = next(size for size in range(1, len(mine) + 1) if all(path[-size:] != mine[-size:] for path in others))
    return "/".join(mine[-size:])


def _own_model(text: str, data: Dataset | None, shape: tuple[int, ...], weights: Path | None, *, train: bool) -> Model:
    if train and data is None:
        raise InvalidInput(f"{text!r} cannot be trained without a data set: name one, or leave --train out")
    if train and weights is not None:
        raise InvalidInput(f"{text!r} is to be trained and to have the weights of {weights}: give one of them")
    classes, name = (data.classes, data.name) if data else (0, None)
    return Model(
        name=text,
        factory=text,
        weights=weights,
        input_shape=shape,
        classes=classes,
        data=name,
        train=train,
        inputs=_inputs_of(data) if data else (),
    )


def _inputs_of(data: Dataset) -> tuple[AskedInput, ...]:
    """The inputs that a data set gives, by name or else by number; () for one of float32, which `input_shape` describes."""
    if len(data.sample) == 1 and data.sample[0].dtype == "float32":
        return ()
    names = data.input_names or tuple(str(place) for place in range(len(data.sample)))
    return tuple(
        AskedInput(name=name, sizes=(None, *one.shape[1:]), dtype=str(one.dtype))
        for name, one in zip(names, data.sample, strict=True)
    )


def _reference_model(call: Call, data: Dataset | None, shape: tuple[int, ...], weights: Path | None) -> Model:
    if call.name not in MODELS:
        raise unknown("model", call.name, [*MODELS, "package.module:function", "FILE.onnx", "FILE.pt2", "FILE.tflite"])
    if data is not None and not data.task.labels:
        raise InvalidInput(
            f"{call.name} is a reference network, which classifies: task {data.task.text} needs a network of yours "
            "(--model package.module:function or a file)"
        )
    if data is not None and (inputs := _inputs_of(data)):
        raise InvalidInput(
            f"{call.name} is a reference network, which takes one input of floats: data set {data.name!r} gives "
            f"{', '.join(map(str, inputs))} and needs a network of yours (--model package.module:function or a file)"
        )
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
        layouts=(layout,) if (layout := _layout(call.name, data)) else (),
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
