"""The first run of a user's network: that it takes its inputs, gives tensors, and is called here as any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import InvalidInput, unknown
from bench.models import example
from bench.models.calls import flatten_outputs, forward_parameters, keyword_only, name_inputs, output_names, tensors_of
from bench.models.plain_function import check_plain
from bench.own_code import users_code
from bench.types import AskedInput, Model

WANTS_NUMBERS = ("argument #1 'indices'", "tensors used as indices")
"""How torch says that an index is a float."""
OTHER_TYPE = ("must have the same dtype", "expected scalar type", "should be the same")
"""How torch says that inputs and weights are of two types."""
FLOATS = (torch.float16, torch.float32, torch.float64)
"""The floats that every library here reads: numpy has no others."""


def adapt(model: Model, module: nn.Module) -> None:
    """Runs the network once on zeros; from here on it takes tensors in order and gives a tensor or a tuple of tensors.

    Raises `InvalidInput` for a network that takes other inputs, or whose outputs are not tensors, one row per sample;
    for state that is not tensors of plain numbers; and as `bench.models.plain_function.check_plain`.
    """
    inputs = example.zeros(model)
    _check_names(model, module, len(inputs))
    name_inputs(module, [item.name for item in model.inputs])
    who = str(model.factory)
    with torch.no_grad(), users_code(f"{who} does not run:"):
        try:
            outputs = module(*inputs)
        except RuntimeError as error:
            raise InvalidInput(
                f"{who} does not take inputs of {_describe(model)}: {error}{_hint(model, module, error)}"
            ) from None
        flatten_outputs(module, outputs, who)
        _check_state(module, who)
        check_plain(module, inputs, who)
    _check_outputs(model, module, outputs)


def _check_names(model: Model, module: nn.Module, count: int) -> None:
    known = forward_parameters(module)
    if (keywords := keyword_only(module)) and (needed := [name for name in keywords if known[name]]):
        raise InvalidInput(
            f"{model.factory} takes {', '.join(needed)} by keyword only, and torch.export wants inputs in order: take the * "
            "out of forward"
        )
    needed = [name for name, needs in known.items() if needs]
    names = [item.name for item in model.inputs]
    if set(names) & set(known):
        for name in names:
            if name not in known:
                raise unknown(f"input of {model.factory} in {_source(model)}", name, known)
        missing = [name for name in needed if name not in names]
    else:
        _refuse_other_names(model, known)
        missing = needed[count:]
    if missing:
        raise InvalidInput(
            f"{model.factory} takes {len(needed)} inputs ({', '.join(needed)}), and {', '.join(missing)} is not given: "
            f"{_how_to_give(model, needed, missing)}"
        )


def _source(model: Model) -> str:
    return f"data set {model.data!r}" if model.data else "--input"


def _refuse_other_names(model: Model, known: Mapping[str, bool]) -> None:
    """Of several inputs that a data set names, none by a parameter of `forward`: their order would be a guess."""
    names = [item.name for item in model.inputs]
    if model.data and len(names) > 1 and not all(name.isdecimal() for name in names):
        raise InvalidInput(
            f"{model.factory}: data set {model.data!r} names its inputs {', '.join(names)}, and forward takes "
            f"{', '.join(known) or 'none by name'}: name them alike; or give a tuple (in an .npz x_train.0, x_train.1), "
            "whose order counts"
        )


def _how_to_give(model: Model, needed: Sequence[str], missing: Sequence[str]) -> str:
    if model.data:
        names = ", ".join(f"x_train.{name}" for name in needed)
        return (
            f"data set {model.data!r} must have it too: {names} and the same for x_test in an .npz, or a dict of these "
            "names from a function"
        )
    first = [] if model.inputs else [f"--input {needed[0]}={','.join(['N', *map(str, model.input_shape)])}"]
    return f"give {' '.join([*first, *(f'--input {name}=N,<sizes>' for name in missing)])}"


def _describe(model: Model) -> str:
    if model.data:
        shown = ", ".join(map(str, model.inputs)) or f"shape {model.input_shape}"
        return f"{shown} (those of data set {model.data!r})"
    return f"--input {' --input '.join(map(str, model.inputs))}" if model.inputs else f"shape {model.input_shape}"


def _hint(model: Model, module: nn.Module, error: RuntimeError) -> str:
    places = {value.device.type for value in (*module.parameters(), *module.buffers())} - {"cpu"}
    if places:
        return f"; its weights are on {', '.join(sorted(places))}: return a network whose weights are on the CPU"
    if any(text in str(error) for text in OTHER_TYPE):
        return _hint_type(model, module)
    if not any(text in str(error) for text in WANTS_NUMBERS):
        return ""
    if model.data:
        return "; it looks up whole numbers: give them as integers in the data set"
    asked = model.inputs or (AskedInput(name=next(iter(forward_parameters(module))), sizes=(None, *model.input_shape)),)
    (shown, *_) = [replace(item, dtype="int64") for item in asked if item.dtype in {"", "float32"}] or asked
    return f"; it looks up whole numbers: give their type, as --input {shown}"


def _hint_type(model: Model, module: nn.Module) -> str:
    """The remedy where the network computes in another type than its inputs have."""
    kinds = {str(value.dtype).removeprefix("torch.") for value in module.parameters() if value.is_floating_point()}
    if kinds != {"float32"}:
        return (
            f"; its weights are {', '.join(sorted(kinds))}: call .float() on the network before the function returns it"
        )
    if any(item.dtype not in {"", "float32"} for item in model.inputs):
        return "; it computes with floats: give them as float32" + (" in the data set" if model.data else "")
    return ""


def _check_state(module: nn.Module, who: str) -> None:
    """Weights are named in the cache by their values and written as numpy arrays."""
    with users_code(f"state_dict() of {who} raised"):
        state = module.state_dict()
    for name, value in state.items():
        if odd := _odd_kind(value):
            raise InvalidInput(
                f"{who}: {name!r} of its state_dict() is {odd}; wanted tensors of plain numbers: return the float network, as it "
                "was before it was quantized, and without extra state"
            )
        if value.is_complex():
            raise InvalidInput(
                f"{who}: its {name!r} is {str(value.dtype).removeprefix('torch.')}, and no file here holds complex numbers: keep a tensor "
                "of real and imaginary parts, as torch.view_as_real gives it"
            )
        if value.is_floating_point() and value.dtype not in FLOATS:
            raise InvalidInput(
                f"{who}: its {name!r} is {str(value.dtype).removeprefix('torch.')}, which numpy lacks: call .float() on the "
                "network before the function returns it"
            )


def _odd_kind(value: object) -> str:
    """What a value is instead of a tensor of plain numbers; "" where it is one."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "a quantized tensor" if value.is_quantized else "" if value.layout == torch.strided else "a sparse tensor"


def _check_outputs(model: Model, module: nn.Module, outputs: Any) -> None:
    if isinstance(outputs, Tensor):
        if model.classes and tuple(outputs.shape) != (2, model.classes):
            raise InvalidInput(
                f"{model.factory} gives {tuple(outputs.shape)} for a batch of 2; "
                f"data set {model.data!r} needs (2, {model.classes})"
            )
        return
    found = [*tensors_of(outputs)]
    for name, value in zip(output_names(module, len(found)), found, strict=True):
        if not value.dim() or len(value) != example.SAMPLES:
            raise InvalidInput(
                f"{model.factory}: output {name!r} has shape {tuple(value.shape)} for a batch of 2; return every output "
                "with the samples first"
            )
    if model.classes and not any(tuple(value.shape) == (2, model.classes) for value in found):
        raise InvalidInput(
            f"{model.factory}: none of its outputs has shape (2, {model.classes}) for a batch of 2, as data set "
            f"{model.data!r} needs"
        )
