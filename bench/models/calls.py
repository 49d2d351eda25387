"""How a user's network is called here: its inputs in one order, its outputs as a tensor or a flat tuple of tensors.

A network may take keywords and return a dict, a dataclass or nested tuples. Hooks on its outermost module translate,
so that names of layers stay and every step, torch.export too, sees the plain form.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import InvalidInput

ONE_OUTPUT = ("output",)


@dataclass(frozen=True, slots=True, eq=False)
class _ByName:
    """A hook that gives the inputs as keywords."""

    names: tuple[str, ...]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del module
        if len(args) != len(self.names):
            return args, kwargs
        return (), {**kwargs, **dict(zip(self.names, args, strict=True))}


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """A hook that gives the tensors of a structure, those of `names` only."""

    names: tuple[str, ...]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        del module, args
        found = tuple(value for _, value in named_tensors(output))
        return found[0] if len(found) == 1 else found


def name_inputs(module: nn.Module, names: Sequence[str]) -> None:
    """From here on the network takes these inputs in this order.

    An input is passed by keyword where all names are parameters of `forward`, else inputs are passed in order.
    """
    known = forward_parameters(module)
    if names and all(name in known for name in names):
        module.register_forward_pre_hook(_ByName(tuple(names)), with_kwargs=True)


def flatten_outputs(module: nn.Module, output: Any, who: str) -> None:
    """From here on the network gives its tensors in a flat tuple, or the only one. `output`: what it gives now.

    Raises `InvalidInput` for an output that holds no tensor, or something else besides.
    """
    if isinstance(output, Tensor):
        return
    try:
        names = distinct_names(name for name, _ in named_tensors(output))
    except TypeError as error:
        raise InvalidInput(f"{who} returns {error}; return tensors, or dicts, tuples or dataclasses of them") from None
    if not names:
        raise InvalidInput(f"{who} returns {type(output).__name__} without a tensor; return what is to be compared")
    module.register_forward_hook(_Flat(names))


def distinct_names(names: Iterable[str], taken: Collection[str] = ()) -> tuple[str, ...]:
    """The names, of which later ones get a number where an earlier one is the same, or `_out` where it is in `taken`."""
    found: list[str] = []
    for name in names:
        first = f"{name}_out" if name in taken else name
        numbered = (f"{first}_{number}" for number in count(1))
        found.append(next(one for one in chain([first], numbered) if one not in found and one not in taken))
    return tuple(found)


def output_names(module: nn.Module, count: int) -> tuple[str, ...]:
    """The names of `count` outputs: keys of a dict, fields of a dataclass, `output_0` and so on of a tuple."""
    hooks = module._forward_hooks.values()  # noqa: SLF001 - torch has no other way to list them
    known = next((hook.names for hook in hooks if isinstance(hook, _Flat)), ())
    if len(known) == count:
        return known
    return ONE_OUTPUT if count == 1 else tuple(f"output_{place}" for place in range(count))


def input_names(module: nn.Module, count: int) -> tuple[str, ...]:
    """The names of the inputs: those given, else `input` of a network of one, else the parameters of its `forward`."""
    hooks = module._forward_pre_hooks.values()  # noqa: SLF001 - torch has no other way to list them
    given = next((hook.names for hook in hooks if isinstance(hook, _ByName)), ())
    if given:
        return given
    known = tuple(forward_parameters(module))
    if count > 1 and len(known) >= count:
        return known[:count]
    return ("input",) if count == 1 else tuple(f"input_{place}" for place in range(count))


def forward_parameters(module: nn.Module) -> Mapping[str, bool]:
    """Name -> whether it must be given, for the parameters of `forward` that take one value each."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(module.forward).parameters.values()
    return {item.name: item.default is inspect.Parameter.empty for item in found if item.kind in kinds}


def keyword_only(module: nn.Module) -> list[str]:
    """The parameters of `forward` that are given by keyword only."""
    found = inspect.signature(module.forward).parameters.values()
    return [item.name for item in found if item.kind is inspect.Parameter.KEYWORD_ONLY]


def named_tensors(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a network returns, with their names. None counts for nothing.

    Raises `TypeError` naming what is neither a tensor nor a dict, dataclass, tuple or list of them.
    """
    if isinstance(output, Tensor):
        yield name or "output", output
    elif output is not None:
        for key, value in _parts(output, name):
            yield from named_tensors(value, f"{name}_{key}" if name else key)


def tensors_of(outputs: Any) -> Iterator[Tensor]:
    """The tensors in what a network returns: a tensor, or tuples, lists and dicts of them."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from tensors_of(value)
    elif isinstance(outputs, (tuple, list)):
        for value in outputs:
            yield from tensors_of(value)


def _parts(output: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):
        yield from ((str(key), value) for key, value in output.items())
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((item.name, getattr(output, item.name)) for item in fields(output))
    elif isinstance(output, (tuple, list)):
        keys = getattr(output, "_fields", None) or [str(place) for place in range(len(output))]
        plain = not name and not getattr(output, "_fields", None)
        yield from ((f"output_{key}" if plain else key, value) for key, value in zip(keys, output, strict=True))
    else:
        raise TypeError(f"{type(output).__name__}{f' in {name}' if name else ''}")


def index_limits(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[int | None, ...]:
    """For each input of whole numbers: how many rows the smallest table has that it chooses from. None if unknown.

    Runs the network once with zeros, which every table takes. An input that reaches no `nn.Embedding` as it is has the
    rows of the smallest one that runs, or is unknown where none runs.
    """
    zeros = tuple(torch.zeros_like(one) for one in inputs)
    places = {one.untyped_storage().data_ptr(): place for place, one in enumerate(zeros)}
    direct: dict[int, int] = {}

    def see(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del output
        assert isinstance(layer, nn.Embedding)
        place = places.get(args[0].untyped_storage().data_ptr(), -1) if args else -1
        direct[place] = min(layer.num_embeddings, direct.get(place, layer.num_embeddings))

    handles = [part.register_forward_hook(see) for part in module.modules() if isinstance(part, nn.Embedding)]
    try:
        with torch.no_grad():
            module(*zeros)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(
        None if one.is_floating_point() or one.dtype == torch.bool else direct.get(place, 2 if direct else None)
        for place, one in enumerate(inputs)
    )
