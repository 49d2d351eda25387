"""Turns weights that torch computes on every call into plain ones: weight_norm, spectral_norm, its own masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bench.compress.outputs import largest_difference, outputs_of
from bench.errors import Unsupported
from bench.models.tensors import Inputs

TOLERANCE = 1e-5
"""How much outputs may differ afterwards, relative to their largest value: rounding in float32."""
FOLDING = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError)
"""What a parametrization of the user's own raises where its weight cannot stand alone."""


def fold_weights(module: nn.Module, example: Inputs) -> dict[str, Tensor]:
    """Turns every computed weight into a parameter of that value, in place. The outputs stay.

    Returns parameter name -> 0/1 tensor of its shape, for weights that `torch.nn.utils.prune` has masked. Raises
    `Unsupported` naming a layer whose weight cannot be folded, and where the outputs would change.
    """
    layers = {name: layer for name, layer in module.named_modules() if _computes(layer)}
    if not layers:
        return {}
    wanted = outputs_of(module, example)
    masks: dict[str, Tensor] = {}
    for name, layer in layers.items():
        masks |= {f"{name}.{parameter}".lstrip("."): mask for parameter, mask in _fold(name, layer).items()}
    if (off := largest_difference(outputs_of(module, example), wanted)) > TOLERANCE:
        raise Unsupported(
            f"layers {', '.join(layers)} compute their weights on every call; with plain weights the outputs "
            f"differ by {off:.2g} of their largest value"
        )
    return masks


def _computes(layer: nn.Module) -> bool:
    return parametrize.is_parametrized(layer) or any(True for _ in _hooks(layer))


def _hooks(layer: nn.Module) -> list[Any]:
    kinds = (WeightNorm, SpectralNorm, BasePruningMethod)
    return [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, kinds)]  # noqa: SLF001 - torch has no other way to list them


def _fold(name: str, layer: nn.Module) -> dict[str, Tensor]:
    """The masks that torch's pruning put on the layer, by parameter."""
    try:
        if parametrize.is_parametrized(layer):
            for parameter in list(layer.parametrizations):  # type: ignore[arg-type]  # a ModuleDict, by `is_parametrized`
                parametrize.remove_parametrizations(layer, parameter, leave_parametrized=True)
        return {parameter: mask for hook in _hooks(layer) for parameter, mask in _unhook(layer, hook)}
    except FOLDING as error:
        raise Unsupported(
            f"layer {name!r} computes its weight on every call, and it cannot be made a plain one: {error}"
        ) from error


def _unhook(layer: nn.Module, hook: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(hook, WeightNorm):
        remove_weight_norm(layer, hook.name)
    elif isinstance(hook, SpectralNorm):
        remove_spectral_norm(layer, hook.name)
    else:
        name = hook._tensor_name  # noqa: SLF001 - where torch keeps it
        yield name, layer.get_buffer(f"{name}_mask").detach().clone()
        prune.remove(layer, name)
