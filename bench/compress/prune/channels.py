"""Steps that remove whole channels and neurons. Every layer that depends on them follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import nn

from bench.compress.arguments import Count, Fraction
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import CONVOLUTIONS, weighted_layers
from bench.compress.prune.channel_criteria import ChannelCriterion
from bench.compress.prune.remove_channels import remove
from bench.compress.prune.weights import Scope
from bench.errors import Unsupported


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Channels(Compressor):
    """Removes the share `amount` of each convolution's filters. The network's outputs stay.

    Layers tied together, as by a residual sum or a depthwise pair, lose the same channels. `scope`: "layer"
    takes the same share of each layer; "global" ranks all channels together, by BatchNorm's scale as it is
    (one threshold, as network slimming does) or by another criterion relative to the layer's mean.
    `round_to` keeps channel counts multiples of it. `only` and `skip` name layers.
    """

    name: ClassVar[str] = "channels"
    source: ClassVar[str] = "Li et al. 2017, arXiv:1608.08710; Fang et al. 2023 (dependency graph), arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Count = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can go or a layer would lose everything."""
        layers = weighted_layers(network.module, only=self.only, skip=self.skip)
        amounts = {name: self.amount for name, layer in layers.items() if isinstance(layer, CONVOLUTIONS)}
        if not amounts:
            raise Unsupported(f"{self!r}: the network has no convolution here; neurons(...) prunes linear layers")
        return remove(network, amounts, self.criterion, context, scope=self.scope, round_to=self.round_to)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Neurons(Compressor):
    """Removes the share `amount` of each hidden linear layer's neurons. The network's outputs stay."""

    name: ClassVar[str] = "neurons"
    source: ClassVar[str] = "Hu et al. 2016, Network Trimming, arXiv:1607.03250; arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Count = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can go or a layer would lose everything."""
        layers = weighted_layers(network.module, only=self.only, skip=self.skip)
        amounts = {name: self.amount for name, layer in layers.items() if isinstance(layer, nn.Linear)}
        if not amounts:
            raise Unsupported(f"{self!r}: the network has no linear layer here; channels(...) prunes convolutions")
        return remove(network, amounts, self.criterion, context, scope=self.scope, round_to=self.round_to)
