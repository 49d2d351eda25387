"""Removes channels and neurons down to given widths: what a search found, as a step that makes it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from bench.compress.arguments import named_counts
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weighted_layers
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.channel_groups import Tied, candidates, trace
from bench.compress.prune.remove_channels import Cut, groups_of, remove
from bench.compress.prune.weight_criteria import saliency
from bench.errors import InvalidInput, Unsupported
from bench.models.copies import duplicate


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Widths(Compressor):
    """Removes the least important outputs of each named layer until it is as wide as asked.

    `keep` has one text for each layer, `'layer=outputs'`. Layers tied to it become as wide, so one of them is enough.
    Layers that are not named keep their widths.
    """

    name: ClassVar[str] = "widths"
    source: ClassVar[str] = "Yang et al. 2018, NetAdapt, arXiv:1804.03230; Fang et al. 2023, arXiv:2301.12900"
    keep: tuple[str, ...]
    criterion: ChannelCriterion = "l2"

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if not self.keep:
            raise InvalidInput("widths(keep=()): name at least one layer, as keep=('conv1=16',)")
        named_counts(repr(self), self.keep)

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` for a layer whose outputs must stay, or that is not that wide."""
        asked = named_counts(repr(self), self.keep)
        weighted_layers(network.module, only=tuple(asked))
        return remove(network, shares(groups_of(network, context), asked), Cut(criterion=self.criterion), context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A group and the scores of its channels (of one block, where it has several), the least important first."""

    tied: Tied
    scores: tuple[float, ...]


def rank_groups(network: Network, context: Context) -> list[Ranked]:
    """Every group with scores that are comparable between groups.

    With a data set: |weight x gradient of the loss|, summed over each filter (Molchanov et al. 2017, arXiv:1611.06440).
    Without one: the share of the group's sum of filter norms. Raises as `groups_of`.
    """
    found = groups_of(network, context)
    if not found:
        return []
    names = [name for group in found for name in group.layers]
    module = duplicate(network.module).requires_grad_()
    criterion: ChannelCriterion = "l2" if context.data is None else "taylor"
    ranked = candidates(trace(module, context.example), module, dict.fromkeys(names, 0.5), criterion, context)
    known = {item.layers: item.scores for item in ranked}
    if context.data is None:
        total = {group.layers: 1.0 for group in found}
    else:
        layers = {name: module.get_submodule(name) for name in names}
        sums = {name: float(one.sum()) for name, one in saliency(module, layers, "taylor", context).items()}
        total = {group.layers: sum(sums[name] for name in group.layers) for group in found}
    return [
        Ranked(
            tied=group, scores=tuple((known[group.layers] / group.size * total[group.layers]).sort().values.tolist())
        )
        for group in found
    ]


def shares(groups: Iterable[Tied], asked: Mapping[str, int]) -> dict[str, float]:
    """Layer -> share of its outputs that goes, so that the groups of the asked layers get the asked widths.

    Raises `Unsupported` for a layer in none of the groups and for a width that its group cannot have, `InvalidInput`
    for two widths of one group.
    """
    found: dict[str, float] = {}
    left = dict(asked)
    for group in groups:
        named = {name: left.pop(name) for name in group.layers if name in left}
        if not named:
            continue
        if len(set(named.values())) > 1:
            raise InvalidInput(f"widths: {', '.join(named)} are tied and must be equally wide, found {named}")
        (name, width), *_ = named.items()
        whole = group.size * group.blocks
        if width > whole or width % group.blocks:
            of = f"a multiple of {group.blocks} up to" if group.blocks > 1 else "up to"
            raise Unsupported(f"layer {name!r} has {whole} outputs and cannot have {width}: ask for {of} {whole}")
        if width < whole:
            found |= dict.fromkeys(group.layers, 1 - width / whole)
    if left:
        raise Unsupported(f"the outputs of layer {next(iter(left))!r} must stay, as the network's own outputs do")
    if not found:
        raise Unsupported("every layer is as narrow as asked already")
    return found
