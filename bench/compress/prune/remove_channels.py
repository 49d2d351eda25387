"""Removes channels: chooses the least important of each group, cuts them out and checks that the network runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.compress.interface import Context, Network
from bench.compress.layers import CONVOLUTIONS, weight_of, weighted_layers
from bench.compress.notes import CHANNELS, merged
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.channel_groups import Candidate, candidates, trace
from bench.compress.prune.weights import Scope, pattern
from bench.errors import Unsupported


def remove(
    network: Network,
    amounts: Mapping[str, float],
    criterion: ChannelCriterion,
    context: Context,
    *,
    scope: Scope = "layer",
    round_to: int = 1,
) -> Network:
    """The network without the given share of the outputs of each named layer, 0 to 1.

    Layers tied together take the smallest share named for one of them. Raises `Unsupported` for a network that
    shares weights or has an N:M pattern, where nothing can go, and where a layer would lose everything.
    """
    if network.clusters:
        raise Unsupported("channels cannot be removed from a network that shares weights; remove them first")
    if found := pattern(network):
        raise Unsupported(f"removing channels would break the {found} pattern of the weights; remove them before nm")
    module = copy.deepcopy(network.module).requires_grad_()
    before = _widths(module)
    _cut(module, amounts, criterion, context, scope, round_to)
    after = _widths(module)
    first = {name: widths[0] for name, widths in network.notes.get(CHANNELS, {}).items()}
    changed = {name: [first.get(name, before[name]), width] for name, width in after.items() if width != before[name]}
    if not changed:
        raise Unsupported(
            f"a share of {max(amounts.values())} removes no channel of layers this small, or only outputs"
        )
    _check_runs(module, network.module, context.example)
    masks = {name: (module.get_parameter(name) != 0).to(mask.dtype) for name, mask in network.masks.items()}
    return replace(network, module=module.eval(), masks=masks, notes=merged(network.notes, CHANNELS, changed))


def _cut(
    module: nn.Module,
    amounts: Mapping[str, float],
    criterion: ChannelCriterion,
    context: Context,
    scope: Scope,
    round_to: int,
) -> None:
    """Removes the channels from `module` in place."""
    graph = trace(module, context.example)
    found = candidates(graph, module, amounts, criterion, context)
    for candidate, indices in zip(found, _choose(found, scope, round_to), strict=True):
        if indices:
            graph.get_pruning_group(module.get_submodule(candidate.root), candidate.prune, indices).prune()


def _choose(found: list[Candidate], scope: Scope, round_to: int) -> list[list[int]]:
    """Indices to remove of each candidate: its least important ones."""
    chosen = []
    for item, count in zip(found, _counts(found, scope), strict=True):
        size = len(item.scores)
        kept = _rounded(size - count, round_to, size)
        if kept < 1:
            raise Unsupported(f"layer {item.root!r} would lose all its {size} channels; prune less, or skip it")
        indices = item.scores.argsort(stable=True)[: size - kept].tolist()
        chosen.append(sorted(index + block * size for index in indices for block in range(item.blocks)))
    return chosen


def _counts(found: list[Candidate], scope: Scope) -> list[int]:
    """How many channels each candidate loses before rounding; "global" ranks the channels of all together."""
    if scope == "layer" or not found:
        return [round(item.amount * len(item.scores)) for item in found]
    together = torch.cat([item.scores for item in found])
    least = together.argsort(stable=True)[: round(found[0].amount * len(together))]
    owner = torch.cat([torch.full((len(item.scores),), index) for index, item in enumerate(found)])
    counts: list[int] = torch.bincount(owner[least], minlength=len(found)).tolist()
    return counts


def _rounded(kept: int, round_to: int, size: int) -> int:
    """The nearest multiple of `round_to`, at least one of it, at most `size`."""
    if round_to == 1 or kept == size:
        return kept
    return min(size, max(round_to, round(kept / round_to) * round_to))


def _widths(module: nn.Module) -> dict[str, int]:
    """Layer -> how many outputs its weight has."""
    return {name: _outputs(weight_of(layer).shape, layer) for name, layer in weighted_layers(module).items()}


def _outputs(shape: torch.Size, layer: nn.Module) -> int:
    return shape[1] * int(layer.groups) if isinstance(layer, CONVOLUTIONS) and layer.transposed else shape[0]


def _check_runs(module: nn.Module, before: nn.Module, example: Tensor) -> None:
    """Runs the smaller network: that shows what the graph missed, such as a reshape by a constant."""
    with torch.no_grad():
        wanted = before(example).shape
        try:
            got = module(example).shape
        except RuntimeError as error:
            raise Unsupported(f"the network does not run with fewer channels: {error}") from error
    if got != wanted:
        raise Unsupported(f"removing channels changed the outputs' shape from {tuple(wanted)} to {tuple(got)}")
