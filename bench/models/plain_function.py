"""Refuses a user's network that is more than a function of its inputs and of its own weights.

Everything here runs a network many times and writes it as a file: what it keeps between calls would be frozen at some
value, what it writes into its inputs would change the user's samples, and a weight that it does not own is never
trained, compressed or filled from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bench.errors import InvalidInput
from bench.models.calls import tensors_of

SEED = 0


def check_plain(module: nn.Module, zeros: Sequence[Tensor], who: str) -> None:
    """Calls the network twice with the same drawn floats; `zeros`: inputs that it takes, whose whole numbers are fed.

    Raises `InvalidInput` for a network that changes its inputs, keeps state between calls, or computes with weights
    that are not its parameters.
    """
    generator = torch.Generator().manual_seed(SEED)
    inputs = [
        torch.rand(one.shape, generator=generator).to(one.dtype) if one.is_floating_point() else one for one in zeros
    ]
    before = [one.clone() for one in inputs]
    watch = _Strangers(module)
    first, kept = _call(module, inputs, watch)
    if not all(map(torch.equal, inputs, before)):
        raise InvalidInput(
            f"{who} changes its inputs in place: use the form that gives a new tensor, as x * 2 for x.mul_(2)"
        )
    second, later = _call(module, inputs, watch)
    if changed := [name for name, value in later.items() if name in kept and not _alike(value, kept[name])]:
        raise InvalidInput(
            f"{who} keeps state in {changed[0]!r} from one call to the next, which would be frozen in a file: take it as "
            "an input and return it as an output"
        )
    if len(first) != len(second) or not all(map(_alike, first, second)):
        raise InvalidInput(
            f"{who} gives other outputs when it is called again with the same inputs: it keeps state between calls, or draws "
            "random numbers that torch.manual_seed does not seed; take state as an input and return it as an output"
        )
    if watch.found is not None:
        raise InvalidInput(
            f"{who} computes with a weight of shape {tuple(watch.found.shape)} that is not among its parameters(): neither a "
            "recipe, training nor --weights would reach it; keep layers in nn.ModuleList or nn.ModuleDict, not in a list, and call them "
            "in methods of a class: a lambda or a function set as an attribute holds on to the network it was made for"
        )


def _call(module: nn.Module, inputs: Sequence[Tensor], watch: _Strangers) -> tuple[list[Tensor], Mapping[str, Tensor]]:
    """The outputs, and the buffers as the call leaves them."""
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"), watch:
        torch.manual_seed(SEED)
        outputs = [value.clone() for value in tensors_of(module(*inputs))]
    return outputs, {name: value.clone() for name, value in module.named_buffers()}


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two calls gave the same, but for the order in which threads add."""
    if one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-6, equal_nan=True)


class _Strangers(TorchFunctionMode):
    """Finds a parameter in what torch computes that the network does not own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._own = {id(value) for value in module.parameters()}
        self.found: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        self.found = next(self._strange((args, kwargs)), self.found)
        return func(*args, **(kwargs or {}))

    def _strange(self, given: Any) -> Iterator[Tensor]:
        return (one for one in pytree.tree_leaves(given) if isinstance(one, nn.Parameter) and id(one) not in self._own)
