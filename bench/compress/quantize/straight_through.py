"""Trains through rounded weights: inference uses the rounded ones, and the real ones learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.compress.interface import Context, Network
from bench.compress.train.distill import check_outputs, distillation_loss
from bench.compress.train.finetune import TrainingStep, retrain, training_data
from bench.models.tensors import Inputs
from bench.models.training.fit import Hook, Objective
from bench.tasks.base import Outputs

Replaced = Callable[[nn.Module], Mapping[str, Tensor]]
"""(module) -> parameter name -> the tensor used in its place, with gradients to the parameter."""


class StraightThrough(TrainingStep, Protocol):
    """The arguments of a step that trains this way. `alpha` below 1 distils, as `bench.compress.train.distill.Distill`."""

    @property
    def alpha(self) -> float:
        """The weight of the labels in the loss, 0 to 1. The rest is the uncompressed model's outputs."""

    @property
    def temperature(self) -> float:
        """The temperature of both softmaxes when outputs are compared."""


def straight_through(weight: Tensor, values: Tensor, clip: float | None = None) -> Tensor:
    """`values` in the forward pass. The backward pass gives `weight` the gradient unchanged, or 0 where |weight| > `clip`.

    Bengio et al. 2013, arXiv:1308.3432, section 4. The clip: Courbariaux & Bengio 2016, arXiv:1602.02830, eq. 4.
    """
    through = weight if clip is None else weight.clamp(-clip, clip)
    return through + (values - through).detach()


def fit_replaced(
    step: StraightThrough,
    module: nn.Module,
    network: Network,
    context: Context,
    replaced: Replaced,
    after_step: Hook | None = None,
) -> None:
    """Trains `module` in place as finetune does, with the `replaced` weights in every forward pass.

    Masks and sharing of `network` hold. Raises `Unsupported` without a data set, `InvalidInput` when the loss
    diverges.
    """
    data = training_data(step, context)
    if step.alpha < 1:
        check_outputs(f"{step!r}: the uncompressed model", context.teacher, module, context.example)

    def loss(module: nn.Module, x: Inputs, y: Tensor) -> Tensor:
        weights = dict(replaced(module))

        def forward(*inputs: Tensor) -> Outputs:
            outputs: Outputs = functional_call(module, weights, inputs)
            return outputs

        if step.alpha == 1:
            return data.task.step(forward, x, y)
        with torch.no_grad():
            wanted = context.teacher(*x)
        return distillation_loss(
            data.task, forward, x, y, teacher=wanted, alpha=step.alpha, temperature=step.temperature
        )

    retrain(step, module, network, context, data, objective=Objective(loss=loss), after_step=after_step)
