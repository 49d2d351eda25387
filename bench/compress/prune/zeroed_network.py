"""What a pruned network must compute: the same as the whole network with the removed channels at zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.hooks import hooked
from bench.compress.layers import ANY_NORMS, CONVOLUTIONS, weight_of
from bench.compress.outputs import largest_difference, outputs_of, shapes_text
from bench.compress.replace_layers import RUNNING
from bench.models.copies import duplicate, set_eval
from bench.models.muted import muted
from bench.models.tensors import Inputs

TOLERANCE = 1e-4
"""The largest difference that counts as none, relative to the largest value of an output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Channels that a module or parameter lost, numbered as before the first of them went.

    `outputs`: whether they are outputs of the module, or inputs. `axis`: of a parameter that belongs to no layer.
    """

    name: str
    outputs: bool
    indices: tuple[int, ...]
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removals:
    """All that went from a network so far, however many times each of its modules lost something.

    `left`: (name, outputs, axis) -> the channels still there, numbered as at first.
    `lost`: the same keys -> the channels that went.
    """

    left: dict[tuple[str, bool, int], list[int]] = field(default_factory=dict)
    lost: dict[tuple[str, bool, int], list[int]] = field(default_factory=dict)

    def add(self, name: str, *, outputs: bool, axis: int, size: int, indices: Iterable[int]) -> None:
        """Notes that these channels go now. `size`: how many there are before."""
        key, going = (name, outputs, axis), set(indices)
        before = self.left.setdefault(key, list(range(size)))
        self.lost.setdefault(key, []).extend(before[index] for index in sorted(going))
        self.left[key] = [channel for index, channel in enumerate(before) if index not in going]

    @property
    def gone(self) -> list[Gone]:
        """One entry for each side of each module."""
        return [
            Gone(name=name, outputs=outputs, axis=axis, indices=tuple(channels))
            for (name, outputs, axis), channels in self.lost.items()
        ]


class NotRunningError(Exception):
    """The pruned network does not run, or its outputs have other shapes than before."""


def difference(pruned: nn.Module, whole: nn.Module, gone: Iterable[Gone], example: Inputs) -> float:
    """The largest difference between the pruned network's outputs and those of `whole` with the channels at zero.

    Relative to the largest value of that output, so 0.1 is 10 %. Both run in float64, or in float32 where the network
    makes float32 tensors itself. A layer's removed outputs are at zero by its weights and bias. Where zero does not
    stay zero (a sigmoid follows), the weights that read the channel are at zero too. LayerNorm and GroupNorm
    normalise over the channels that are left. Raises `NotRunningError`.
    """
    reference, removed = duplicate(whole), list(gone)
    for entry in removed:
        _zero(reference, entry)
    over_kept = [*_norm_hooks(reference, removed)]
    with hooked(over_kept):
        try:
            wanted = _try_outputs(duplicate(reference).double(), _double(example))
            double = True
        except RUNNING:
            wanted, double = outputs_of(reference, example), False
    ours = set_eval(duplicate(pruned))
    try:
        got = _try_outputs(ours.double(), _double(example)) if double else _try_outputs(ours, example)
    except (*RUNNING, ArithmeticError) as error:
        raise NotRunningError(f"the network does not run with fewer channels: {error}") from error
    if shapes_text(got) != shapes_text(wanted):
        raise NotRunningError(
            f"removing channels changed the outputs' shape from {shapes_text(wanted)} to {shapes_text(got)}"
        )
    return largest_difference(got, wanted)


def _try_outputs(module: nn.Module, example: Inputs) -> list[Tensor]:
    with muted():  # torch.fx prints a traceback of what it raises
        return outputs_of(module, example)


def _double(example: Inputs) -> Inputs:
    """Floats in double precision; whole numbers and masks as they are."""
    return tuple(one.double() if one.is_floating_point() else one for one in example)


def _zero(module: nn.Module, gone: Gone) -> None:
    """Sets the weights of the removed channels to zero, in place. Weights shared with other layers stay theirs."""
    indices = torch.tensor(gone.indices)
    if gone.name in dict(module.named_parameters()):
        module.get_parameter(gone.name).data.index_fill_(gone.axis, indices, 0.0)
        return
    layer = module.get_submodule(gone.name)
    if isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
        _zero_weighted(layer, indices, outputs=gone.outputs)
    elif isinstance(layer, ANY_NORMS):
        for value in (layer.weight, layer.bias, getattr(layer, "running_mean", None)):
            if value is not None:
                value.data.index_fill_(-1, indices, 0.0)
    elif isinstance(layer, nn.Embedding):
        layer.weight.data.index_fill_(1, indices, 0.0)
    elif isinstance(layer, nn.RNNBase) and not gone.outputs:
        for name, value in layer.named_parameters():
            if name.startswith("weight_ih_l0"):
                value.data.index_fill_(1, indices, 0.0)


def _zero_weighted(layer: nn.Module, indices: Tensor, *, outputs: bool) -> None:
    """Of a convolution or linear layer. Its weight has the outputs on axis 0; a transposed one has the inputs there."""
    groups, transposed = (layer.groups, layer.transposed) if isinstance(layer, CONVOLUTIONS) else (1, False)
    weight = weight_of(layer).detach().clone()
    rows = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    if outputs != transposed:
        rows[indices // rows.shape[1], indices % rows.shape[1]] = 0.0
    else:
        rows[indices // rows.shape[2], :, indices % rows.shape[2]] = 0.0
    layer.weight = nn.Parameter(weight)
    if outputs and isinstance(bias := layer.bias, Tensor):
        bias = bias.detach().clone()
        bias[indices] = 0.0
        layer.bias = nn.Parameter(bias)


def _norm_hooks(module: nn.Module, removed: list[Gone]) -> Iterator[tuple[nn.Module, Any]]:
    names = dict(module.named_modules())
    for entry in removed:
        layer = names.get(entry.name)
        if isinstance(layer, nn.GroupNorm):
            yield layer, partial(_group_norm, entry.indices)
        elif isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
            yield layer, partial(_layer_norm, entry.indices)


def _layer_norm(gone: tuple[int, ...], layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Over the last axis; a layer with a `forward` of its own normalises over axis 1."""
    axis = -1 if type(layer).forward is nn.LayerNorm.forward else 1
    kept = _kept(range(layer.normalized_shape[0]), gone)
    weight, bias = (None if value is None else value[kept] for value in (layer.weight, layer.bias))
    values = inputs[0].transpose(axis, -1)[..., kept]
    result = torch.zeros_like(output).transpose(axis, -1)
    result[..., kept] = F.layer_norm(values, (len(kept),), weight, bias, layer.eps)
    return result.transpose(axis, -1)


def _group_norm(gone: tuple[int, ...], layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Each group normalises over those of its own channels that are left."""
    result = torch.zeros_like(output)
    for channels in torch.arange(layer.num_channels).chunk(layer.num_groups):
        own = _kept(channels.tolist(), gone)
        weight, bias = (None if value is None else value[own] for value in (layer.weight, layer.bias))
        if len(own):
            result[:, own] = F.group_norm(inputs[0][:, own], 1, weight, bias, layer.eps)
    return result


def _kept(channels: Iterable[int], gone: tuple[int, ...]) -> Tensor:
    lost = set(gone)
    return torch.tensor([index for index in channels if index not in lost], dtype=torch.long)
