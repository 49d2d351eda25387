"""Replaces a layer by a chain of smaller ones: where the layer runs, what it costs, how the chain takes its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.interface import Network
from bench.compress.layers import TRANSPOSED, weight_of, width_of
from bench.compress.outputs import outputs_of, shapes_text
from bench.errors import Unsupported
from bench.models.copies import duplicate, set_eval
from bench.models.example import SAMPLES
from bench.models.tensors import Inputs

RUNNING = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""What a network's own code raises when a layer is not what it expects, for example if it reads `layer.weight`."""
TIED = "its weight is another layer's too"
"""Why such a layer is not replaced: the other layer would keep the weight, so the chain would only add to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Weights without biases, and multiply-accumulates (MACs) for one example."""

    params: int
    macs: int

    def below(self, other: Price) -> bool:
        """Whether both are smaller."""
        return self.params < other.params and self.macs < other.macs


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A layer and the sizes it runs at. `inputs` and `outputs`: spatial sizes, () where there are none.

    `calls`: how often one inference runs it. Every call counts as large as the first. `rows`: how many of the layer's samples
    are one of the network: steps of a sequence, windows, frames.
    """

    layer: nn.Module
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: int = 1
    rows: int = 1

    @property
    def runs(self) -> int:
        """How many samples of its own the layer computes for one inference."""
        return self.calls * self.rows

    @property
    def price(self) -> Price:
        """What the layer itself costs."""
        weights = weight_of(self.layer).numel()
        places = self.inputs if isinstance(self.layer, TRANSPOSED) else self.outputs
        return Price(params=weights, macs=weights * math.prod(places) * self.runs)


def sites(module: nn.Module, layers: Mapping[str, nn.Module], example: Inputs) -> dict[str, Site]:
    """Layer name -> its site, in the order of the first calls. A layer that never runs is missing."""
    found: dict[str, Site] = {}

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name in found:
            found[name] = replace(found[name], calls=found[name].calls + 1)
            return
        found[name] = site_of(layer, inputs[0], output)

    with torch.no_grad(), hooked((layer, partial(record, name)) for name, layer in layers.items()):
        module(*example)
    return found


def site_of(layer: nn.Module, entering: Tensor, output: Tensor) -> Site:
    """The site of one call with the example. Rows that its samples do not divide are not theirs: a table that the network holds."""
    before, after = (tuple(one.shape[one.dim() - (weight_of(layer).dim() - 2) :]) for one in (entering, output))
    rows = output.numel() // (width_of(layer) * math.prod(after))
    return Site(layer=layer, inputs=before, outputs=after, rows=rows if rows % SAMPLES else max(1, rows // SAMPLES))


class NeededError(Unsupported):
    """The network does not run, or has outputs of another shape, with chains in the places of layers."""


def substitute_each(
    network: Network, chains: Mapping[str, nn.Module], example: Inputs
) -> tuple[Network, Mapping[str, str]]:
    """As `substitute`, but layers that the network does not run without stay; they are returned with the reason.

    Raises as `substitute` where that leaves none to replace, or does not help.
    """
    try:
        return substitute(network, chains, example), {}
    except NeededError:
        left = {name: why for name, chain in chains.items() if (why := _explain_needed(network, name, chain, example))}
        if not 0 < len(left) < len(chains):
            raise
        return substitute(network, {name: chain for name, chain in chains.items() if name not in left}, example), left


def _explain_needed(network: Network, name: str, chain: nn.Module, example: Inputs) -> str:
    try:
        substitute(network, {name: chain}, example)
    except NeededError as error:
        return str(error)
    return ""


def substitute(network: Network, chains: Mapping[str, nn.Module], example: Inputs) -> Network:
    """A new network with these chains in place of the named layers, wherever the network holds those layers.

    Raises `Unsupported` when a layer is pruned or shared, which a chain cannot keep, or when the network does
    not run with a chain in the layer's place.
    """
    _refuse_constrained(network, chains)
    module = duplicate(network.module)
    known = list(module.named_modules(remove_duplicate=False))
    for name, chain in chains.items():
        layer = module.get_submodule(name)
        for alias in [other for other, found in known if found is layer]:
            module.set_submodule(alias, chain)
    wanted = shapes_text(outputs_of(network.module, example))
    try:
        got = shapes_text(outputs_of(module, example))
    except RUNNING as error:
        raise NeededError(f"the network does not run with {', '.join(chains)} replaced: {error}") from error
    if got != wanted:
        raise NeededError(f"with {', '.join(chains)} replaced the outputs' shape is {got} instead of {wanted}")
    return replace(network, module=set_eval(module))


def _refuse_constrained(network: Network, names: Iterable[str]) -> None:
    for name in names:
        for what, kept in (("pruned", network.masks), ("shared", network.clusters)):
            if f"{name}.weight" in kept:
                raise Unsupported(
                    f"layer {name!r} has {what} weights, which the layers replacing it cannot keep; "
                    "put this step before, or skip the layer"
                )
