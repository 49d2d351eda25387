"""Pruning in rounds: prunes a little, trains, and repeats up to a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final, get_args

from torch import nn

from bench.compress.arguments import Count, Fraction, Positive
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import KINDS, Granularity, companions, distinct_layers, weight_of, weighted_layers
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.channel_groups import Tied
from bench.compress.prune.remove_channels import Cut, remove, tied
from bench.compress.prune.weight_criteria import WeightCriterion, saliency
from bench.compress.prune.weights import Scope, WeightPruner, note_sparsity, prune_to
from bench.compress.train.finetune import Finetune, training_data
from bench.errors import InvalidInput, Unsupported

Schedule = Literal["linear", "geometric", "cubic"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Iterative(WeightPruner):
    """Prunes up to the share `to` in rounds. Each round is followed by `epochs` of training; pruned weights stay away.

    `schedule`: linear adds the same share every round (Han et al. 2015); geometric takes the same share of
    what is left; cubic begins fast and ends slowly (Zhu & Gupta 2017). `granularity`: single weights, whole
    channels of convolutions, or neurons of linear layers. `criterion` and `scope`: as in prune and channels. Widths are
    any numbers, not multiples of what the target's kernels take.
    """

    name: ClassVar[str] = "iterative"
    source: ClassVar[str] = (
        "Han et al. 2015, arXiv:1506.02626; Zhu & Gupta 2017, To prune, or not to prune, arXiv:1710.01878"
    )
    trains: ClassVar[bool] = True
    to: Fraction
    steps: Count = 5
    schedule: Schedule = "cubic"
    epochs: Count = 1
    learning_rate: Positive = 1e-3
    criterion: ChannelCriterion = "l1"
    granularity: Granularity = "weight"
    scope: Scope = "global"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        check_criterion(self, self.criterion, self.granularity)

    def apply(self, network: Network, context: Context) -> Network:
        """Hits `to` within one weight or channel. Weights that are masked already count.

        Raises `Unsupported` without a data set, for a network sparser than `to`, and where a layer would lose
        everything.
        """
        training_data(self, context)
        layers = layers_of(self, network.module, self.granularity, only=self.only, skip=self.skip)
        start = masked_share(network, layers) if self.granularity == "weight" else 0.0
        if start >= self.to:
            raise Unsupported(f"{self!r}: {start:.4f} of these weights are pruned already; ask for more than that")
        ranked = self._ranked(network, layers, context)
        train = Finetune(epochs=self.epochs, learning_rate=self.learning_rate)
        for turn, share in enumerate(shares(start, self.to, self.steps, self.schedule)):
            if self.granularity == "weight":
                network = self._prune(network, context, share)
            else:
                network = self._remove(network, context, ranked, share)
            network = train.apply(network, replace(context, seed=context.seed + turn))
        return note_sparsity(network) if self.granularity == "weight" else network

    def _prune(self, network: Network, context: Context, share: float) -> Network:
        layers = distinct_layers(network.module, only=self.only, skip=self.skip)
        scores = saliency(network.module, layers, self.criterion, context)
        return prune_to(network, scores, dict.fromkeys(layers, share), self.scope)

    def _ranked(self, network: Network, layers: Iterable[str], context: Context) -> list[list[Tied]]:
        """Which layers are ranked together, before the first round. Raises `Unsupported` if `to` is less than one channel."""
        if self.granularity == "weight":
            return []
        found = tied(network, layers, context, self._along(network, layers))
        ranked = [found] if self.scope == "global" else [[item] for item in found]
        if not any(round(self.to * sum(item.size for item in items)) for items in ranked):
            raise Unsupported(f"{self!r} removes no {self.granularity} of layers this small, or only outputs")
        return ranked

    def _along(self, network: Network, layers: Iterable[str]) -> frozenset[str]:
        return companions(network.module, layers, self.granularity, only=self.only, skip=self.skip)

    def _remove(self, network: Network, context: Context, ranked: list[list[Tied]], share: float) -> Network:
        """Removes channels until `share` of the first widths is gone. A round that is too small removes none."""
        amounts: dict[str, float] = {}
        for items in ranked:
            size, left = sum(item.size for item in items), sum(item.left(network.module) for item in items)
            going = left - (size - round(share * size))
            amounts |= {name: going / left for item in items for name in item.layers}
        cut = Cut(criterion=self.criterion, scope=self.scope, along=self._along(network, amounts))
        return remove(network, amounts, cut, context) if any(amounts.values()) else network


def shares(start: float, to: float, steps: int, schedule: str) -> tuple[float, ...]:
    """The share pruned after each of `steps` rounds, from above `start` to exactly `to`.

    With t = round / steps, linear: start + (to - start) t; geometric: 1 - (1 - start) ((1 - to) / (1 - start))^t;
    cubic: to + (start - to) (1 - t)^3 (Zhu & Gupta 2017, eq. 1).
    """
    formula: Mapping[str, Callable[[float], float]] = {
        "linear": lambda t: start + (to - start) * t,
        "geometric": lambda t: 1 - (1 - start) * ((1 - to) / (1 - start)) ** t,
        "cubic": lambda t: to + (start - to) * (1 - t) ** 3,
    }
    return (*(formula[schedule](turn / steps) for turn in range(1, steps)), to)


def check_criterion(step: Compressor, criterion: str, granularity: str) -> None:
    """Raises `InvalidInput` if a criterion for channels is used on single weights."""
    allowed = get_args(WeightCriterion)
    if granularity == "weight" and criterion not in allowed:
        raise InvalidInput(
            f"{step.name}(criterion={criterion!r}): it ranks channels; for single weights criterion must be one of "
            + ", ".join(map(repr, allowed))
        )


def layers_of(
    step: Compressor, module: nn.Module, granularity: Granularity, *, only: tuple[str, ...], skip: tuple[str, ...]
) -> dict[str, nn.Module]:
    """The layers whose weights, channels or neurons may go; of single weights, each tensor once.

    Raises `Unsupported` where there are none, and for single weights as `distinct_layers`.
    """
    find = distinct_layers if granularity == "weight" else weighted_layers
    named = find(module, only=only, skip=skip)
    found = {name: layer for name, layer in named.items() if isinstance(layer, KINDS[granularity])}
    if not found:
        raise Unsupported(f"{step!r}: the network has no layer here whose {granularity}s could be pruned")
    return found


def masked_share(network: Network, layers: Iterable[str]) -> float:
    """The share of these layers' weights that is masked, 0 to 1."""
    sizes = {name: weight_of(network.module.get_submodule(name)).numel() for name in layers}
    masks = [network.masks[f"{name}.weight"] for name in sizes if f"{name}.weight" in network.masks]
    return sum(int((mask == 0).sum()) for mask in masks) / sum(sizes.values())
