"""The layers of a network that have weights, by name, and which of them a step changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal

from torch import nn

from bench.errors import InvalidInput, Unsupported

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Their weights have the output channels on axis 1."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
ANY_NORMS = (*NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm)

Granularity = Literal["weight", "channel", "neuron"]
"""What is removed: single weights of any layer, whole channels of convolutions, or whole neurons of linear layers."""
KINDS: Mapping[Granularity, tuple[type[nn.Module], ...]] = {
    "weight": WEIGHTED,
    "channel": CONVOLUTIONS,
    "neuron": (nn.Linear,),
}


def weighted_layers(
    module: nn.Module, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """Convolutions and linear layers by module path, in the network's order.

    `only` keeps just the named ones, `skip` leaves the named ones out; () for neither. Raises `InvalidInput`
    for a name that is not such a layer, with the nearest ones.
    """
    found = {name: layer for name, layer in module.named_modules() if isinstance(layer, WEIGHTED)}
    for name in (*only, *skip):
        if name not in found:
            near = get_close_matches(name, found, n=3, cutoff=0.0)
            raise InvalidInput(f"no layer {name!r} with weights; nearest: {', '.join(near) or 'there is none'}")
    return {name: layer for name, layer in found.items() if name not in skip and (not only or name in only)}


def distinct_layers(
    module: nn.Module, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """As `weighted_layers`, each weight tensor once: for steps that change the weights where they are.

    Raises `Unsupported` where a layer that `only` or `skip` leaves out has the weight of one that it does not, naming both:
    it would change too.
    """
    found = weighted_layers(module, only=only, skip=skip)
    owner: dict[object, str] = {weight_of(layer): name for name, layer in found.items()}
    for name, layer in weighted_layers(module).items():
        if name not in found and layer.weight in owner:
            raise Unsupported(
                f"layers {owner[layer.weight]!r} and {name!r} have one weight tensor, so {name!r}, which "
                f"{'skip' if name in skip else 'only'} leaves out, would change too: name both or neither of them"
            )
    return distinct(found)


def some_layers(
    step: object, module: nn.Module, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """As `distinct_layers`. Raises `Unsupported` naming the step where there are none."""
    found = distinct_layers(module, only=only, skip=skip)
    if not found:
        raise Unsupported(f"{step!r}: the network has no convolution and no linear layer here that holds its weight")
    return found


def companions(
    module: nn.Module, asked: Iterable[str], granularity: Granularity, *, only: tuple[str, ...], skip: tuple[str, ...]
) -> frozenset[str]:
    """Layers that may lose outputs together with those asked for: linear ones with convolutions, as the gates of
    squeeze-and-excitation. None where neurons are removed: convolutions keep their channels then."""
    named = weighted_layers(module, only=only, skip=skip) if granularity == "channel" else {}
    return frozenset(named) - {*asked}


def distinct(layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The layers without those that share their weight tensor with an earlier one, so each tensor occurs once."""
    first = {weight_of(layer): name for name, layer in reversed(list(layers.items()))}
    return {name: layer for name, layer in layers.items() if first[weight_of(layer)] == name}


def tied_layers(module: nn.Module) -> frozenset[str]:
    """Layers that share their weight tensor with another layer, as a head with its embedding. Replacing one of them would
    keep the other's weight."""
    holders = Counter(value for part in module.modules() for value in part.parameters(recurse=False))
    return frozenset(name for name, layer in weighted_layers(module).items() if holders[weight_of(layer)] > 1)


def outside_layers(module: nn.Module) -> str:
    """Says which parameters no step on single weights reaches: embeddings, recurrent weights, attention's
    `in_proj_weight`. "" where they are under 1 % of all parameters."""
    held = {weight_of(layer) for layer in weighted_layers(module).values()}
    left = {name: value.numel() for name, value in module.named_parameters() if value.dim() > 1 and value not in held}
    share = sum(left.values()) / max(1, sum(value.numel() for value in module.parameters()))
    if share < 0.01:
        return ""
    names = f"{', '.join(list(left)[:3])}{f' and {len(left) - 3} more' if len(left) > 3 else ''}"
    return f"{share:.0%} of the parameters are outside convolutions and linear layers and stay as they are: {names}"


def weight_of(layer: nn.Module) -> nn.Parameter:
    """The weight of a convolution, linear layer or BatchNorm.

    Raises `Unsupported` where the layer has none of its own: a BatchNorm without scales, or a weight that is
    computed on every call.
    """
    weight = layer.weight
    if not isinstance(weight, nn.Parameter):
        kind = "has no weight" if weight is None else "computes its weight on every call"
        raise Unsupported(f"a layer {layer} {kind}, and this step needs one that is a parameter")
    return weight


def width_of(layer: nn.Module) -> int:
    """How many channels or neurons a layer puts out."""
    width = layer.out_channels if isinstance(layer, CONVOLUTIONS) else layer.out_features
    assert isinstance(width, int)
    return width
