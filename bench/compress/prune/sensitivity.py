"""Scans how much each layer can lose, and prunes it by that much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import nn

from bench.compress import notes
from bench.compress.arguments import Count, Positive
from bench.compress.calibration import scored_data
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import Granularity, companions, weight_of
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.iterative import check_criterion, layers_of
from bench.compress.prune.remove_channels import Cut, remove, tied
from bench.compress.prune.weight_criteria import saliency
from bench.compress.prune.weights import WeightPruner, prune_to
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.copies import set_eval
from bench.models.training.judge import judge
from bench.tasks.base import Task

LEVELS = 64
"""A layer's share is found to 1/64, or to one channel (of each group) where a layer has fewer than 64."""

Pruned = Callable[[Mapping[str, float]], Network]
"""(layer -> share of it that goes) -> the network without them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sensitivity(WeightPruner):
    """Prunes each layer by the largest share that costs at most `max_drop_pp` percentage points of accuracy by itself.

    For another task than classification the points are those of its score; per cent of a score that is not a fraction.

    Finds the shares by bisection, one layer at a time, with layers tied together as one. It does not train, and
    it looks at `samples` examples of the training set, never at the test set. All layers together cost more: the
    notes say how much, and training wins it back. `granularity` and `criterion`: as in iterative; so are widths.
    """

    name: ClassVar[str] = "sensitivity"
    source: ClassVar[str] = (
        "Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.2; arXiv:1506.02626"
    )
    looks_at_data: ClassVar[bool] = True
    max_drop_pp: Positive = 1.0
    criterion: ChannelCriterion = "l1"
    granularity: Granularity = "weight"
    samples: Count = 2048
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        check_criterion(self, self.criterion, self.granularity)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, or if no layer can lose anything within the drop."""
        data = scored_data(self, context)
        task = data.task
        layers = layers_of(self, network.module, self.granularity, only=self.only, skip=self.skip)
        look = _looker(data, self.samples, context.seed)
        whole = look(network.module)
        groups, pruned = self._ways(network, layers, context)
        found: dict[str, float] = {}
        for turn, (group, size) in enumerate(groups.items()):
            context.progress(f"{self!r}: {group[0]}", turn / len(groups))
            share = self._largest(group, size, pruned, look, whole, task)
            found |= dict.fromkeys(group, share)
        if not any(found.values()):
            raise Unsupported(f"{self!r}: the smallest share of any layer already costs more; allow a larger drop")
        result = pruned({name: share for name, share in found.items() if share})
        scan = {
            "shares": {name: round(share, 6) for name, share in found.items()},
            "train_score": whole,
            "drop_of_all_pp": task.drop(whole, look(result.module)),
        }
        return replace(result, notes={**result.notes, notes.SENSITIVITY: scan})

    def _ways(
        self, network: Network, layers: Mapping[str, nn.Module], context: Context
    ) -> tuple[dict[tuple[str, ...], int], Pruned]:
        """The layers to scan -> how many weights or channels each has to lose, and how to prune shares of them.

        Layers tied together are one tuple.
        """
        if self.granularity != "weight":
            along = companions(network.module, layers, self.granularity, only=self.only, skip=self.skip)
            cut = Cut(criterion=self.criterion, along=along)
            sizes = {item.layers: item.size for item in tied(network, layers, context, along)}
            return sizes, lambda amounts: remove(network, amounts, cut, context)
        scores = saliency(network.module, layers, self.criterion, context)
        return {(name,): weight_of(layer).numel() for name, layer in layers.items()}, lambda amounts: prune_to(
            network, {name: scores[name] for name in amounts}, amounts, "layer"
        )

    def _largest(
        self,
        group: tuple[str, ...],
        size: int,
        pruned: Pruned,
        look: Callable[[nn.Module], float],
        whole: float,
        task: Task,
    ) -> float:
        """The largest share within the drop. Assumes that a larger share never costs less. Never tries to remove a
        whole layer."""
        levels = min(LEVELS, size)
        fits, too_much = 0, levels
        while too_much - fits > 1:
            middle = (fits + too_much) // 2
            now = look(pruned(dict.fromkeys(group, middle / levels)).module)
            if task.drop(whole, now) <= self.max_drop_pp:
                fits = middle
            else:
                too_much = middle
        return fits / levels


def _looker(data: Dataset, samples: int, seed: int) -> Callable[[nn.Module], float]:
    """Finds the task's score of the last `samples` examples in a seeded order. Criteria look at the first ones."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    chosen = order[-samples:].numpy()
    return lambda module: judge(set_eval(module), data.train, chosen, data.task).score
