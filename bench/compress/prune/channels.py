"""Steps that remove whole channels and neurons. Every layer that depends on them follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from bench.compress.arguments import Fraction, Within
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import KINDS, Granularity, companions, weighted_layers
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.remove_channels import Cut, remove
from bench.compress.prune.weights import Scope
from bench.errors import InvalidInput, Unsupported

Widths = Annotated[Literal["auto"] | int, Within(low=1)]
Unset = Annotated[int, Within(low=0)]


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Channels(Compressor):
    """Removes the share `amount` of each convolution's filters. The network's outputs stay.

    Layers tied together, as by a residual sum or a depthwise pair, lose the same channels. `scope`: "layer"
    takes the same share of each layer; "global" ranks all channels together, by BatchNorm's scale as it is
    (one threshold, as network slimming does) or by another criterion relative to the layer's mean.
    `round_to` keeps channel counts multiples of it, 1: any count. With "auto" they are multiples of `width_step`,
    which the target fills in: how many channels its kernels take at a time. A network too narrow for that takes half
    of it, or a quarter. The notes say which share went. `only` and `skip` name layers.
    """

    name: ClassVar[str] = "channels"
    source: ClassVar[str] = "Li et al. 2017, arXiv:1608.08710; Fang et al. 2023 (dependency graph), arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Widths = "auto"
    width_step: Unset = 0
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        _check_widths(self)

    def fit_widths(self, step: int) -> Compressor:
        """With `width_step`, unless the step has a `round_to` or a `width_step` already."""
        return replace(self, width_step=step) if self.round_to == "auto" and not self.width_step else self

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can go or a layer would lose everything."""
        return _remove(self, network, context, "channel", "convolution here; neurons(...) prunes linear layers")


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Neurons(Compressor):
    """Removes the share `amount` of each hidden linear layer's neurons. The network's outputs stay.

    The arguments are those of channels.
    """

    name: ClassVar[str] = "neurons"
    source: ClassVar[str] = "Hu et al. 2016, Network Trimming, arXiv:1607.03250; arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Widths = "auto"
    width_step: Unset = 0
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        _check_widths(self)

    def fit_widths(self, step: int) -> Compressor:
        """With `width_step`, unless the step has a `round_to` or a `width_step` already."""
        return replace(self, width_step=step) if self.round_to == "auto" and not self.width_step else self

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can go or a layer would lose everything."""
        return _remove(self, network, context, "neuron", "linear layer here; channels(...) prunes convolutions")


def _check_widths(step: Channels | Neurons) -> None:
    if step.width_step and step.round_to != "auto":
        raise InvalidInput(
            f"{step.name}(round_to={step.round_to}, width_step={step.width_step}): give one of the two; round_to is "
            "kept strictly, width_step is halved for a network too narrow for it"
        )


def _remove(
    step: Channels | Neurons, network: Network, context: Context, granularity: Granularity, otherwise: str
) -> Network:
    """Removes outputs of the layers that have these. `otherwise`: what to say where there are none."""
    layers = weighted_layers(network.module, only=step.only, skip=step.skip)
    amounts = {name: step.amount for name, layer in layers.items() if isinstance(layer, KINDS[granularity])}
    if not amounts:
        raise Unsupported(f"{step!r}: the network has no {otherwise}")
    cut = Cut(
        criterion=step.criterion,
        scope=step.scope,
        round_to=max(1, step.width_step) if step.round_to == "auto" else step.round_to,
        halve=step.round_to == "auto",
        along=companions(network.module, amounts, granularity, only=step.only, skip=step.skip),
    )
    return remove(network, amounts, cut, context)
