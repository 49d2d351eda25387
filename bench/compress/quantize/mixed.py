"""Mixed precision: float32 in the few layers where int8 costs accuracy, int8 everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.compress.arguments import Count, Positive
from bench.compress.calibration import divide, scored_data
from bench.compress.hooks import hooked
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weighted_layers
from bench.compress.notes import MIXED_INT8
from bench.compress.quantize.activations import trace
from bench.compress.quantize.bits import Bits, fewest_bits
from bench.compress.quantize.simulate import Grid, calibrate, rounded_weights, simulated
from bench.compress.replace_layers import site_of
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.tensors import Inputs
from bench.models.training.judge import Judgement, judge
from bench.tasks.base import Outputs
from bench.types import QuantSpec

Look = Callable[[frozenset[str]], Judgement]
"""(layers that are int8) -> how well the network does on the held-out samples then."""

INT8, FLOAT = 8, 32
"""Bits of a layer's weights and inputs."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixedInt8(Compressor):
    """Static int8 that keeps as few layers in float as hold the accuracy within `max_drop_pp` points of float32.

    Simulates int8 in torch, with min-max ranges of `samples` inputs, and judges it on `held_out` other examples
    of the training set, never on the test set. Points are as in sensitivity. A network that knows those examples by heart drops less on them.
    Where int8 everywhere drops too much, how much each layer's own int8 raises the loss is measured. An integer program then
    chooses the least loss for a number of multiplications in float, which shrinks until the score drops too much. Single
    layers that can still be int8, are. The notes have every figure.
    """

    name: ClassVar[str] = "mixed_int8"
    source: ClassVar[str] = "Yao et al. 2021, HAWQ-V3, arXiv:2011.10680, its sensitivities measured"
    looks_at_data: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    max_drop_pp: Positive = 0.5
    per_channel: bool = True
    symmetric: bool = True
    samples: Count = 256
    held_out: Count = 2048

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, if torch.export cannot trace the network, and if no layer can be
        int8 within the drop."""
        layers = weighted_layers(network.module)
        data = scored_data(self, context)
        task, look = data.task, self._looker(network.module, data, context)
        whole = look(frozenset())
        everything = look(frozenset(layers))

        def fits(found: Judgement) -> bool:
            return task.drop(whole.score, found.score) <= self.max_drop_pp

        kept: list[str] = []
        alone: dict[str, float] = {}
        if not fits(everything):
            for turn, name in enumerate(layers):
                context.progress(f"{self!r}: {name} by itself", turn / len(layers))
                alone[name] = look(frozenset({name})).loss - whole.loss
            macs = multiplications(network.module, layers, context.example)
            rises = {name: {INT8: added, FLOAT: 0.0} for name, added in alone.items()}
            bits = fewest_bits(rises, macs, lambda asked: fits(look(_int8(asked))))
            kept = [name for name in layers if bits[name] == FLOAT]
        if len(kept) == len(layers):
            raise Unsupported(f"{self!r}: not one layer can be int8 within this drop; allow a larger one")
        found = {
            "keep_float": kept,
            "held_out_score": {
                "float32": whole.score,
                "int8": everything.score,
                "mixed": look(frozenset(layers) - frozenset(kept)).score,
            },
            "loss_added_alone": alone,
        }
        return replace(network, quant=self._spec(tuple(kept)), notes={**network.notes, MIXED_INT8: found})

    def _looker(self, module: nn.Module, data: Dataset, context: Context) -> Look:
        """A function that judges sets of int8 layers. Calibrates on the first inputs of a seeded order, judges on the last."""
        calibrated_on, chosen = divide(data, self.samples, self.held_out, context.seed)
        traced = trace(module, context.example)
        ranges = calibrate(module, traced, data.train.inputs(calibrated_on))
        grid = Grid(per_channel=self.per_channel, symmetric=self.symmetric)

        def look(int8: frozenset[str]) -> Judgement:
            weights = rounded_weights(module, int8, traced, grid)

            def forward(*inputs: Tensor) -> Outputs:
                outputs: Outputs = functional_call(module, weights, inputs)
                return outputs

            with torch.no_grad(), simulated(module, traced, ranges, int8, grid):
                return judge(forward, data.train, chosen, data.task)

        return look

    def _spec(self, kept: tuple[str, ...]) -> QuantSpec:
        return QuantSpec(
            kind="static",
            per_channel=self.per_channel,
            activation_symmetric=self.symmetric,
            samples=self.samples,
            keep_float=kept,
        )


def _int8(bits: Bits) -> frozenset[str]:
    return frozenset(name for name, count in bits.items() if count == INT8)


def multiplications(module: nn.Module, layers: Mapping[str, nn.Module], example: Inputs) -> dict[str, int]:
    """Layer -> multiplications for one input, over all its calls."""
    found = dict.fromkeys(layers, 0)

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[name] += site_of(layer, inputs[0], output).price.macs

    with torch.no_grad(), hooked((layer, partial(count, name)) for name, layer in layers.items()):
        module(*example)
    return found
