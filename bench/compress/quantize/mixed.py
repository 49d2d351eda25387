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
from bench.compress.layers import TRANSPOSED, weight_of, weighted_layers
from bench.compress.notes import MIXED_INT8
from bench.compress.quantize.activations import trace
from bench.compress.quantize.simulate import Grid, calibrate, rounded_weights, simulated
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.tensors import Inputs
from bench.models.training.judge import Judgement, judge
from bench.tasks.base import Outputs
from bench.types import QuantSpec

Look = Callable[[frozenset[str]], Judgement]
"""(layers that are int8) -> how well the network does on the held-out samples then."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixedInt8(Compressor):
    """Static int8 that keeps as few layers in float as hold the accuracy within `max_drop_pp` points of float32.

    Simulates int8 in torch, with min-max ranges of `samples` inputs, and judges it on `held_out` other examples
    of the training set, never on the test set. Points are as in sensitivity. A network that knows those examples by heart drops less on them.
    All layers start as int8. While the drop is too large, one more layer stays in float: first the one whose
    own int8 raises the loss most per multiplication. At the end each float layer is tried in int8 again, the
    most expensive first. The notes have every figure.
    """

    name: ClassVar[str] = "mixed_int8"
    source: ClassVar[str] = (
        "Dong et al. 2019, HAWQ, arXiv:1905.03696, its sensitivities measured; greedy search as Wu et al. 2020, "
        "arXiv:2004.09602, section 5.2"
    )
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
            order = sorted(layers, key=lambda name: alone[name] / max(macs[name], 1), reverse=True)
            kept = fewest_in_float(order, macs, lambda float_: fits(look(frozenset(layers) - float_)))
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


def fewest_in_float(order: list[str], macs: Mapping[str, int], fits: Callable[[frozenset[str]], bool]) -> list[str]:
    """The layers to keep in float: none of them could go back to int8 by itself.

    Layers join in `order` until `fits`. Then each is tried without, the one with the most `macs` first.
    """
    kept: list[str] = []
    for name in order:
        kept.append(name)
        if fits(frozenset(kept)):
            break
    for name in sorted(kept, key=lambda name: macs[name], reverse=True):
        rest = [other for other in kept if other != name]
        if rest and fits(frozenset(rest)):
            kept = rest
    return kept


def multiplications(module: nn.Module, layers: Mapping[str, nn.Module], example: Inputs) -> dict[str, int]:
    """Layer -> multiplications for one input, over all its calls."""
    found = dict.fromkeys(layers, 0)

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = weight_of(layer)
        places = inputs[0] if isinstance(layer, TRANSPOSED) else output
        found[name] += places.numel() // len(places) * (weight.numel() // weight.shape[0])

    with torch.no_grad(), hooked((layer, partial(count, name)) for name, layer in layers.items()):
        module(*example)
    return found
