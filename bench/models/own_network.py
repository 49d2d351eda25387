"""The first run of a user's network: that it takes its inputs, gives tensors, and is called here as any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import InvalidInput, unknown
from bench.models import example
from bench.models.calls import flatten_outputs, forward_parameters, keyword_only, name_inputs, output_names, tensors_of
from bench.own_code import users_code
from bench.types import AskedInput, Model

WANTS_NUMBERS = ("argument #1 'indices'", "tensors used as indices")
"""How torch says that an index is a float."""


def adapt(model: Model, module: nn.Module) -> None:
    """Runs the network once on zeros; from here on it takes tensors in order and gives a tensor or a tuple of tensors.

    Raises `InvalidInput` for a network that takes other inputs, or whose outputs are not tensors, one row per sample.
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
                raise unknown(f"input of {model.factory} in --input", name, known)
        missing = [name for name in needed if name not in names]
    else:
        missing = needed[count:]
    if not missing:
        return
    first = [] if names else [f"--input {needed[0]}={','.join(['N', *map(str, model.input_shape)])}"]
    options = " ".join([*first, *(f"--input {name}=N,<sizes>" for name in missing)])
    without = ", and --dataset '': a data set of one input cannot feed it" if model.data else ""
    raise InvalidInput(
        f"{model.factory} takes {len(needed)} inputs ({', '.join(needed)}), and {', '.join(missing)} is not given: "
        f"give {options}{without}"
    )


def _describe(model: Model) -> str:
    if model.inputs:
        return f"--input {' --input '.join(map(str, model.inputs))}"
    return f"shape {model.input_shape}" + (f" (those of data set {model.data!r})" if model.data else "")


def _hint(model: Model, module: nn.Module, error: RuntimeError) -> str:
    if not any(text in str(error) for text in WANTS_NUMBERS):
        return ""
    asked = model.inputs or (AskedInput(name=next(iter(forward_parameters(module))), sizes=(None, *model.input_shape)),)
    (shown, *_) = [replace(item, dtype="int64") for item in asked if item.dtype in {"", "float32"}] or asked
    return f"; it looks up whole numbers: give their type, as --input {shown}"


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
