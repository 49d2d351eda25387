"""Training that pulls weights or BatchNorm's scales towards zero, for a later step that prunes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from bench.compress.arguments import Count, Positive
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import NORMS, some_layers, weight_of
from bench.compress.notes import NORM, merged
from bench.compress.train.finetune import retrain, training_data
from bench.errors import Unsupported
from bench.models.copies import duplicate
from bench.models.tensors import Inputs
from bench.models.training.fit import Objective


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Regularize(Compressor):
    """Trains with `strength` times a sum of magnitudes added to the loss, which makes many weights unimportant.

    `kind`: l1 sums over the weights of convolutions and linear layers. bn_l1 sums over BatchNorm's scales
    (network slimming); follow it with channels(criterion='bn_scale', scope='global').
    """

    name: ClassVar[str] = "regularize"
    source: ClassVar[str] = "Liu et al. 2017, Network Slimming, arXiv:1708.06519; Han et al. 2015, arXiv:1506.02626"
    trains: ClassVar[bool] = True
    kind: Literal["l1", "bn_l1"] = "l1"
    strength: Positive = 1e-4
    epochs: Count = 2
    learning_rate: Positive = 1e-3

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, without layers to pull on, and for bn_l1 without a BatchNorm that scales."""
        data = training_data(self, context)
        module = duplicate(network.module)
        drawn = self._drawn(module)

        def loss(module: nn.Module, x: Inputs, y: Tensor) -> Tensor:
            return data.task.step(module, x, y) + self.strength * sum_of_magnitudes(drawn)

        before = float(sum_of_magnitudes(drawn).detach())
        retrain(self, module, network, context, data, objective=Objective(loss=loss))
        after = float(sum_of_magnitudes(drawn).detach())
        return replace(network, module=module, notes=merged(network.notes, NORM, {self.kind: [before, after]}))

    def _drawn(self, module: nn.Module) -> Sequence[Tensor]:
        if self.kind == "l1":
            return [weight_of(layer) for layer in some_layers(self, module).values()]
        found = [weight_of(layer) for layer in module.modules() if isinstance(layer, NORMS) and layer.affine]
        if not found:
            raise Unsupported(f"{self!r}: the network has no BatchNorm with a scale; kind='l1' pulls on the weights")
        return found


def sum_of_magnitudes(values: Sequence[Tensor]) -> Tensor:
    """The sum of |v| over all the tensors."""
    return torch.stack([value.abs().sum() for value in values]).sum()
