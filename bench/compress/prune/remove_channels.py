"""Removes channels: chooses the least important of each group, cuts them out and checks what the network computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.layers import CONVOLUTIONS, weight_of, weighted_layers
from bench.compress.notes import CHANNELS, ROUNDED, merged
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.channel_groups import (
    LIBRARY,
    Candidate,
    Graph,
    MisfitError,
    Tied,
    candidates,
    fault_in,
    group_of,
    size_of,
    trace,
)
from bench.compress.prune.removable import refusal
from bench.compress.prune.weights import Scope, pattern
from bench.compress.prune.zeroed_network import TOLERANCE, NotRunningError, Removals, difference
from bench.errors import Unsupported
from bench.models.copies import duplicate, set_eval


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How channels are chosen. `round_to`: what widths are multiples of. `halve`: half of it where nothing could go.

    `along`: layers that lose outputs only together with the layers asked for, as the linear gate of a convolution.
    """

    criterion: ChannelCriterion
    scope: Scope = "layer"
    round_to: int = 1
    halve: bool = False
    along: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """The smaller network. `asked` and `reached`: share of the channels that can go, 0 to 1. `round_to`: as used."""

    module: nn.Module
    asked: float
    reached: float
    round_to: int


def remove(network: Network, amounts: Mapping[str, float], cut: Cut, context: Context) -> Network:
    """The network without the given share of the outputs of each named layer, 0 to 1.

    Layers tied together take the smallest share named for one of them. The result computes what the network does
    with the removed channels at zero. Raises `Unsupported` for a network that shares weights or has an N:M
    pattern, where nothing can go, where a layer would lose everything, and where the result would compute
    something else: then it names the layers to leave, found by trying.
    """
    if network.clusters:
        raise Unsupported("channels cannot be removed from a network that shares weights; remove them first")
    if found := pattern(network):
        raise Unsupported(f"removing channels would break the {found} pattern of the weights; remove them before nm")
    removed = _cut(network.module, amounts, cut, context)
    module = removed.module
    before, after = _widths(network.module), _widths(module)
    first = {name: widths[0] for name, widths in network.notes.get(CHANNELS, {}).items()}
    changed = {name: [first.get(name, before[name]), width] for name, width in after.items() if width != before[name]}
    if not changed:
        raise Unsupported(
            f"a share of {max(amounts.values())} removes no channel of layers this small, or only outputs "
            "and layers tied to those or to layers left out"
            + (
                f"; widths stay multiples of round_to={cut.round_to}: take a smaller one"
                if cut.round_to > 1 and not cut.halve
                else ""
            )
        )
    masks = {name: (module.get_parameter(name) != 0).to(mask.dtype) for name, mask in network.masks.items()}
    notes = merged(network.notes, CHANNELS, changed)
    if cut.round_to > 1:
        notes = {**notes, ROUNDED: "; ".join(filter(None, (notes.get(ROUNDED, ""), _describe(removed, cut))))}
    return replace(network, module=set_eval(module), masks=masks, notes=notes)


def _describe(removed: Removed, cut: Cut) -> str:
    narrow = f" ({cut.round_to} is too wide for this network)" if removed.round_to < cut.round_to else ""
    return (
        f"{removed.reached:.1%} of the channels went and {removed.asked:.1%} were asked for: the widths are multiples "
        f"of {removed.round_to}{narrow}"
    )


def tied(network: Network, layers: Iterable[str], context: Context, along: frozenset[str] = frozenset()) -> list[Tied]:
    """The named layers whose outputs can be removed. Layers that lose them together are one entry.

    Removes half of each on trial. Raises `Unsupported` as `remove` does.
    """
    amounts, cut = dict.fromkeys(layers, 0.5), Cut(criterion="l1", along=along)
    _cut(network.module, amounts, cut, context)
    return _tied(network.module, amounts, context, along)


def groups_of(network: Network, context: Context) -> list[Tied]:
    """All layers with weights whose outputs may be removable, in groups that lose them together. Removes nothing on trial.

    Leaves out layers that torch-pruning gets wrong. Raises `Unsupported` where it cannot follow the network.
    """
    amounts = dict.fromkeys(weighted_layers(network.module), 0.5)
    while amounts:
        found = _tied_or_fault(network.module, amounts, context)
        if not isinstance(found, MisfitError):
            return found
        kept = {name: share for name, share in amounts.items() if name not in found.layers}
        if len(kept) == len(amounts):
            raise Unsupported(f"the groups of channels of this network were not found: {found}")
        amounts = kept
    return []


def _tied_or_fault(whole: nn.Module, amounts: Mapping[str, float], context: Context) -> list[Tied] | MisfitError:
    try:
        return _tied(whole, amounts, context)
    except MisfitError as error:
        return error


def _tied(
    whole: nn.Module, amounts: Mapping[str, float], context: Context, along: frozenset[str] = frozenset()
) -> list[Tied]:
    module = duplicate(whole).requires_grad_()
    found = candidates(trace(module, context.example), module, amounts, "l1", context, along)
    return [Tied(layers=item.layers, size=len(item.scores), blocks=item.blocks) for item in found]


def _cut(whole: nn.Module, amounts: Mapping[str, float], cut: Cut, context: Context) -> Removed:
    """A copy of the network without the channels. What cannot be cut is refused, with what can."""
    try:
        return _cut_or_misfit(whole, amounts, cut, context)
    except MisfitError as error:
        quick, named = replace(cut, criterion="l2"), weighted_layers(whole)

        def attempt(part: Mapping[str, float], last: bool) -> MisfitError | None:
            """What is wrong if only these layers lose channels. Ranks them by their weights, the last time as asked."""
            try:
                module = _cut_or_misfit(whole, part, cut if last else quick, context).module
            except MisfitError as fault:
                return fault
            except Unsupported as fault:
                return MisfitError(str(fault))
            return MisfitError("nothing goes") if _widths(module) == _widths(whole) else None

        linear = all(isinstance(named[name], nn.Linear) for name in amounts)
        alike = [
            name for name, layer in named.items() if isinstance(layer, nn.Linear) == linear and name not in amounts
        ]
        raise refusal(error, amounts, dict.fromkeys(alike, max(amounts.values())), attempt) from error


def _cut_or_misfit(whole: nn.Module, amounts: Mapping[str, float], cut: Cut, context: Context) -> Removed:
    """Raises `MisfitError` where the library fails, or where the result computes something else."""
    module = duplicate(whole).requires_grad_()
    graph = trace(module, context.example)
    found = candidates(graph, module, amounts, cut.criterion, context, cut.along)
    round_to, indices = _choose(found, cut)
    chosen = [(one, going) for one, going in zip(found, indices, strict=True) if going]
    removals = Removals()
    for candidate, going in chosen:
        _prune(graph, module.get_submodule(candidate.root), going, removals)
    units = tuple(candidate.layers for candidate, _ in chosen)
    try:
        off = difference(module, whole, removals.gone, context.example)
    except NotRunningError as error:
        raise MisfitError(str(error), units=units) from error
    if off > TOLERANCE:
        raise MisfitError(
            f"without these channels the network computes something else: its outputs differ by {off:.2g} of their "
            "largest value from those with the channels at zero",
            units=units,
        )
    for name, kept in whole.named_parameters():
        module.get_parameter(name).requires_grad_(kept.requires_grad)
    sizes = [len(one.scores) * one.blocks for one in found]
    asked = sum(one.amount * size for one, size in zip(found, sizes, strict=True))
    total = max(1, sum(sizes))
    return Removed(module=module, asked=asked / total, reached=sum(map(len, indices)) / total, round_to=round_to)


def _prune(graph: Graph, root: nn.Module, indices: list[int], removals: Removals) -> None:
    """Removes these outputs of one layer and what must go with them, in place. Raises `MisfitError`."""
    names = {layer: name for name, layer in graph.model.named_modules()}
    try:
        group = group_of(graph, root, indices)
        if fault := fault_in(graph, group):
            raise MisfitError(fault, (names[root],))
        for item in group:
            target = item.dep.target
            name = names.get(target.module) or graph.parameter_name(target.module)
            size = size_of(graph, item)
            if name and size:
                outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
                removals.add(name, outputs=outputs, axis=target.pruning_dim, size=size, indices=item.idxs)
        group.prune()
    except LIBRARY as error:
        raise MisfitError(f"torch-pruning fails there: {str(error) or type(error).__name__}", (names[root],)) from error


def _choose(found: list[Candidate], cut: Cut) -> tuple[int, list[list[int]]]:
    """What widths are multiples of, and the indices to remove of each candidate."""
    counts, round_to = _counts(found, cut.scope), cut.round_to
    chosen = _least(found, counts, round_to)
    while cut.halve and round_to > 1 and not any(chosen):
        round_to //= 2
        chosen = _least(found, counts, round_to)
    return round_to, chosen


def _least(found: list[Candidate], counts: list[int], round_to: int) -> list[list[int]]:
    """Indices to remove of each candidate: its least important ones."""
    chosen = []
    for item, count in zip(found, counts, strict=True):
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
