"""Reads from a network which channels can go together, what that is expected to cost, and which layers it changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.interface import Context, Network
from bench.compress.layers import weight_of, weighted_layers, width_of
from bench.compress.notes import BRANCHES
from bench.compress.outputs import outputs_of
from bench.compress.prune.branches import Branches, Keep, samples_of
from bench.compress.prune.remove_channels import Cut, remove
from bench.compress.prune.widths import Ranked, rank_groups, shares
from bench.errors import Unsupported
from bench.line.probes.cuts import Shape
from bench.search.nouns import Choice, Group, Layer, Side, gone_from
from bench.search.ranks import find_ranks
from bench.types import Progress

LEVELS = 8
"""How many widths a group may have at most."""
NARROWEST = 0.25
"""No group keeps a smaller share of its channels: one step removes them all, and training must win that back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a search chooses from. `fixed`: groups that cannot be narrowed -> the reason.

    `criterion`: by which the step `widths` ranks channels, as the losses do. `step`: channels that the target's kernels
    take at a time. `left`: what a branch leaves that goes. `head`: the steps that make the network; "" for the user's own.
    """

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    fixed: Mapping[str, str]
    criterion: str = "l2"
    step: int = 1
    left: Keep = "mean"
    head: str = ""

    def settle(self, choice: Choice) -> Choice:
        """With the full rank where two layers of the rank would be no smaller at these widths: the step leaves such a layer."""
        gone = gone_from(self.groups, choice)
        settled = list(choice)
        for layer in self.layers:
            if layer.rank is None or layer.factor:
                continue
            group = self.groups[layer.rank]
            if not layer.shrinks(group.widths[choice[layer.rank]], gone):
                settled[layer.rank] = len(group.widths) - 1
        return tuple(settled)


def read_space(
    network: Network, context: Context, step: int, progress: Progress, *, short: bool = True, ranks: bool = False
) -> Space:
    """The groups with their widths, multiples of `step` where the group is wide enough, and the layers they change.
    `short`: a group that is all of a residual branch may have no channels, which removes the branch. `ranks`: layers may be
    factorized too.

    Each group loses channels once on trial, which shows what follows. Raises `Unsupported` where nothing can go.
    """
    ranked = rank_groups(network, context)
    whole = _sides(network.module)
    groups: list[Group] = []
    fixed: dict[str, str] = {}
    changed: list[dict[str, tuple[float, float]]] = []
    for place, one in enumerate(ranked):
        progress("groups of channels", place / len(ranked))
        group = _group(one, step)
        if len(group.widths) < 2:
            fixed[group.layers[0]] = f"it has only {group.whole} outputs"
            continue
        try:
            changed.append(_follow(network, context, one, group, whole))
        except Unsupported as error:
            fixed[group.layers[0]] = str(error)
            continue
        groups.append(group)
    if short and groups:
        groups = _with_branches(network, context, groups, changed, whole)
    shapes = _shapes(network.module, context.example)
    layers = tuple(
        Layer(
            name=name,
            inputs=_side(whole[name][0], [(place, follows[name][0]) for place, follows in enumerate(changed)]),
            outputs=_side(whole[name][1], [(place, follows[name][1]) for place, follows in enumerate(changed)]),
            shape=shapes.get(name),
            weights=weight_of(layer).numel(),
        )
        for name, layer in weighted_layers(network.module).items()
    )
    lower: tuple[Group, ...] = ()
    if ranks:
        lower, layers = find_ranks(network, context, layers, len(groups), step)
    if not (groups or lower):
        raise Unsupported(f"no channel of this network can go: {next(iter(fixed.values()), 'it has no such layers')}")
    criterion = "l2" if context.data is None else "taylor"
    return Space(groups=(*groups, *lower), layers=layers, fixed=fixed, criterion=criterion, step=step)


def _group(ranked: Ranked, step: int) -> Group:
    """Widths for a group: at most `LEVELS`, multiples of the step. A narrow group takes half of the step, or a quarter.

    The loss of a width is the sum of the scores that go, over the share of the channels that is left: what is left
    must stand in for what went.
    """
    size, blocks = ranked.tied.size, ranked.tied.blocks
    while step > 1 and size * blocks < 4 * step:
        step //= 2
    least = max(1, round(NARROWEST * size))
    wanted = {size * level / LEVELS for level in range(1, LEVELS)}
    rounded = {max(step, round(width * blocks / step) * step) for width in wanted}
    kept = sorted(
        {width // blocks for width in rounded if not width % blocks and least * blocks <= width < size * blocks}
    )
    counts = [*kept, size]
    losses = [sum(ranked.scores[: size - count]) * size / count for count in counts]
    widths = tuple(count * blocks for count in counts)
    return Group(layers=ranked.tied.layers, widths=widths, losses=tuple(losses))


def _with_branches(
    network: Network,
    context: Context,
    groups: Sequence[Group],
    changed: Sequence[Mapping[str, tuple[float, float]]],
    whole: Mapping[str, tuple[int, int]],
) -> list[Group]:
    """With width 0 where a group's channels are all that goes through one residual branch, else as they are.

    What that costs in quality: as much more than the narrowest width as the outputs change more by it, untrained and
    with the branch's mean in its place.
    """
    ends = [_find_end(group, lost, whole) for group, lost in zip(groups, changed, strict=True)]
    if not any(ends):
        return [*groups]
    given = samples_of(context)
    wanted = outputs_of(network.module, given)

    def shorten(group: Group, lost: Mapping[str, tuple[float, float]], end: str) -> Group:
        try:
            short = Branches(drop=(end,)).apply(network, context)
            if {end, *itertools.chain(*short.notes[BRANCHES].values())} != {name for name in lost if any(lost[name])}:
                return group
            going = dict.fromkeys(group.layers, 1 - group.widths[0] / group.whole)
            narrow = remove(network, going, Cut(criterion="taylor"), context)
        except Unsupported:
            return group
        harm = [_change(outputs_of(one.module, given), wanted) for one in (short, narrow)]
        loss = group.losses[0] * max(1.0, harm[0] / harm[1] if harm[1] else 1.0)
        return replace(group, widths=(0, *group.widths), losses=(loss, *group.losses), branch=end)

    found = zip(groups, changed, ends, strict=True)
    return [shorten(group, lost, end) if end else group for group, lost, end in found]


def _find_end(group: Group, lost: Mapping[str, tuple[float, float]], whole: Mapping[str, tuple[int, int]]) -> str:
    """The one layer that only reads what the group puts out, and nothing else; "" where there are others."""
    ends = [name for name, (inputs, outputs) in lost.items() if inputs and not outputs]
    return ends[0] if len(ends) == 1 and lost[ends[0]][0] * group.whole == whole[ends[0]][0] else ""


def _change(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Root of the summed squares of all differences."""
    squares = (float((one - other).double().square().sum()) for one, other in zip(got, wanted, strict=True))
    return math.sqrt(sum(squares))


def _follow(
    network: Network, context: Context, ranked: Ranked, group: Group, whole: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[float, float]]:
    """Layer -> inputs and outputs that it loses for each output that the group loses."""
    asked = {group.layers[0]: group.widths[0]}
    small = remove(network, shares([ranked.tied], asked), Cut(criterion="l1"), context)
    lost = group.whole - group.widths[0]
    return {
        name: ((whole[name][0] - inputs) / lost, (whole[name][1] - outputs) / lost)
        for name, (inputs, outputs) in _sides(small.module).items()
    }


def _side(whole: int, ratios: Sequence[tuple[int, float]]) -> Side:
    return Side(whole=whole, per={group: ratio for group, ratio in ratios if ratio})


def _sides(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Layer -> how many channels go in and out."""
    return {
        name: (int(getattr(layer, "in_channels", 0) or getattr(layer, "in_features", 0)), width_of(layer))
        for name, layer in weighted_layers(module).items()
    }


def _shapes(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Shape]:
    """Of the layers that can be cut out: plain and depthwise convolutions, and linear layers, of one call."""
    seen: dict[str, list[tuple[int, ...]]] = {}
    names = {layer: name for name, layer in weighted_layers(module).items()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(names[layer], []).append(tuple(inputs[0].shape))

    with torch.no_grad(), hooked(entering=((layer, note) for layer in names)):
        module(*example)
    found = {}
    for layer, name in names.items():
        if len(seen.get(name, [])) == 1 and (shape := _shape(layer, seen[name][0])) is not None:
            found[name] = shape
    return found


def _shape(layer: Any, given: tuple[int, ...]) -> Shape | None:
    if isinstance(layer, nn.Linear):
        return Shape(rows=given[1:-1]) if len(given) > 1 else None
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d)) or not all(isinstance(pad, int) for pad in layer.padding):
        return None
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    if layer.padding_mode != "zeros" or (layer.groups > 1 and not depthwise):
        return None
    return Shape(
        window=given[2:],
        kernel=tuple(layer.kernel_size),
        stride=tuple(layer.stride),
        padding=tuple(int(pad) for pad in layer.padding),
        dilation=tuple(layer.dilation),
        depthwise=depthwise and layer.groups > 1,
    )
