"""How much a weight matters: one saliency per weight, 0 or more. Pruning removes the smallest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.interface import Context
from bench.compress.layers import CONVOLUTIONS, weight_of
from bench.errors import Unsupported
from bench.models.copies import duplicate
from bench.models.tensors import Inputs, as_tensors
from bench.models.training.fit import refuse_without_gradient

WeightCriterion = Literal["l1", "random", "taylor", "hessian", "activation"]
SAMPLES = 256
"""How many examples of the training set gradients and activations are taken over."""
BATCH = 64


def saliency(module: nn.Module, layers: Mapping[str, nn.Module], criterion: str, context: Context) -> dict[str, Tensor]:
    """Layer name -> saliency of its weights, of the weight's shape, float32.

    - l1: |w|. random: uniform, seeded.
    - taylor: |w g|, where g is the gradient of the loss (Molchanov et al. 2017).
    - hessian: h w^2 / 2, where h is the diagonal of the empirical Fisher matrix: the mean squared gradient of
      single examples (LeCun et al. 1990, OBD).
    - activation: |w| times the root mean square of the input it multiplies (Sun et al. 2024, Wanda).

    Raises `Unsupported` without data or labels, for a loss without a gradient, and for activation if a layer is never called.
    """
    if criterion == "l1":
        return {name: weight_of(layer).detach().abs() for name, layer in layers.items()}
    if criterion == "random":
        generator = torch.Generator().manual_seed(context.seed)
        return {name: torch.rand(weight_of(layer).shape, generator=generator) for name, layer in layers.items()}
    if criterion == "activation":
        rms = input_rms(module, layers, context)
        return {name: weight_of(layer).detach().abs() * rms[name] for name, layer in layers.items()}
    return _by_gradient(module, layers, criterion, context)


def input_rms(module: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> dict[str, Tensor]:
    """Layer name -> root mean square of each input channel, in a shape that multiplies the layer's weight."""
    sums: dict[str, Tensor] = {}
    calls = dict.fromkeys(layers, 0)

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        axis = 1 if isinstance(layer, CONVOLUTIONS) else inputs[0].dim() - 1
        squares = inputs[0].detach().square().transpose(axis, -1).flatten(0, -2).mean(0)
        sums[name] = sums.get(name, torch.zeros(())) + squares
        calls[name] += 1

    seen, _ = samples(context, "activation")
    with torch.no_grad(), hooked(entering=((layer, partial(record, name)) for name, layer in layers.items())):
        for chunk in zip(*(one.split(BATCH) for one in seen), strict=True):
            module(*chunk)
    if unseen := [name for name in layers if name not in sums]:
        raise Unsupported(
            f"criterion 'activation' sees no input of layer {unseen[0]!r}: the network never calls it (it may read its "
            f"weight itself); skip it: skip=({', '.join(map(repr, unseen))},)"
        )
    return {name: _per_input(layers[name], (total / calls[name]).sqrt()) for name, total in sums.items()}


def _per_input(layer: nn.Module, values: Tensor) -> Tensor:
    """Puts values of input channels on the weight's input axis. The shape is (1, in, 1, 1), or (out, in/groups, 1, 1) for
    a grouped layer."""
    weight = weight_of(layer)
    if not isinstance(layer, CONVOLUTIONS):
        return values
    tail = (1,) * (weight.dim() - 2)
    if layer.transposed:
        return values.reshape(-1, 1, *tail)
    groups = int(layer.groups)
    per_group = values.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
    return per_group.reshape(weight.shape[0], weight.shape[1], *tail)


def _by_gradient(module: nn.Module, layers: Iterable[str], criterion: str, context: Context) -> dict[str, Tensor]:
    inputs, targets = samples(context, criterion)
    assert context.data is not None
    task = context.data.task
    free = duplicate(module)  # a user's network may come with frozen layers
    weights = {name: weight_of(free.get_submodule(name)).requires_grad_() for name in layers}
    size = 1 if criterion == "hessian" else BATCH
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    batches = zip(*(one.split(size) for one in inputs), strict=True)
    for x, y in zip(batches, targets.split(size), strict=True):
        with torch.enable_grad():
            loss = len(y) * task.loss(free(*x), y)
        refuse_without_gradient(loss, f"criterion {criterion!r}")
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                totals[name] += gradient.square() if criterion == "hessian" else gradient
    means = {name: total / len(targets) for name, total in totals.items()}
    if criterion == "hessian":
        return {name: means[name] * weights[name].detach().square() / 2 for name in weights}
    return {name: (means[name] * weights[name].detach()).abs() for name in weights}


def samples(context: Context, criterion: str) -> tuple[Inputs, Tensor]:
    """Inputs and targets: a seeded choice of the training set. Raises `Unsupported` without a data set."""
    if context.data is None:
        raise Unsupported(
            f"criterion {criterion!r} looks at data, and this model has no data set; name one with --dataset, or take l1 or random"
        )
    order = torch.randperm(len(context.data.train), generator=torch.Generator().manual_seed(context.seed))
    chosen = order[:SAMPLES].numpy()
    return as_tensors(context.data.train.inputs(chosen)), torch.from_numpy(context.data.train.targets(chosen))
