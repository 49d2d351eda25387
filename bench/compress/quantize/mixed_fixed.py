"""Mixed precision on an FPGA: for each layer's weights as few bits as the score allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.compress.arguments import Count, Positive, Within
from bench.compress.calibration import divide, scored_data
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weight_of
from bench.compress.notes import MIXED_FIXED
from bench.compress.quantize.bits import Bits, fewest_bits
from bench.compress.quantize.fixed_graph import FixedGraph, running
from bench.compress.quantize.fixed_grids import Grids, fold, integer_bits, used_layers, value_bits
from bench.compress.quantize.mixed import multiplications
from bench.data.datasets import Dataset
from bench.data.parts import Array
from bench.errors import InvalidInput, Unsupported
from bench.models.tensors import as_tensors
from bench.models.training.judge import Judgement, judge
from bench.tasks.base import Outputs


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixedFixed(Compressor):
    """Fixed point as `fixed`, with as few bits for each layer's weights as hold the score within `max_drop_pp` points of float32.

    Simulates the design in torch, on the grids that the FPGA gets, and judges it on `held_out` examples of the training set
    that set no grid, never on the test set. Points are as in sensitivity. Values have `width` bits. Weights have at most as
    many, and at least `narrowest`. How much each layer's bits raise the loss, with the other layers at `width` bits, is
    measured. An integer program then chooses the least loss for a number of multiplied bits, which shrinks until the score
    drops too much. Single bits that can still go, go. The notes have every figure.
    """

    name: ClassVar[str] = "mixed_fixed"
    source: ClassVar[str] = (
        "Yao et al. 2021, HAWQ-V3, arXiv:2011.10680, its sensitivities measured; bits of each layer on FPGAs: Coelho et al. 2021, "
        "arXiv:2006.10159"
    )
    looks_at_data: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    max_drop_pp: Positive = 0.5
    width: Annotated[int, Within(low=2, high=18)] = 8
    narrowest: Annotated[int, Within(low=2, high=18)] = 2
    samples: Count = 256
    held_out: Count = 2048

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if self.narrowest > self.width:
            raise InvalidInput(f"{self!r}: narrowest is at most width")

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, if torch.export cannot trace the network, for layers that share weights,
        and where `width` bits everywhere drop too much already."""
        data = scored_data(self, context)
        design = self._simulate(network.module, data, context)
        task, whole = data.task, design.look({})
        wide = dict.fromkeys(design.layers, self.width)
        everything = design.look(wide)

        def fits(found: Judgement) -> bool:
            return task.drop(whole.score, found.score) <= self.max_drop_pp

        if not fits(everything):
            raise Unsupported(
                f"{self!r}: {self.width} bits for all weights drop more; allow more bits or a larger drop"
            )
        alone: dict[str, dict[int, float]] = {}
        for turn, name in enumerate(wide):
            context.progress(f"{self!r}: {name} by itself", turn / len(wide))
            fewer = range(self.narrowest, self.width)
            alone[name] = {bits: design.look({**wide, name: bits}).loss for bits in fewer}
        rises = {
            name: {**{bits: loss - everything.loss for bits, loss in losses.items()}, self.width: 0.0}
            for name, losses in alone.items()
        }
        macs = multiplications(design.module, design.layers, context.example)
        taken = fewest_bits(rises, macs, lambda asked: fits(design.look(asked)))
        scores = {"float32": whole.score, "fixed": everything.score, "mixed": design.look(taken).score}
        losses = {name: {str(bits): loss for bits, loss in found.items()} for name, found in alone.items()}
        notes = {"weight_bits": taken, "held_out_score": scores, "loss_alone": losses}
        return replace(
            network, quant=design.grids(taken).spec(self.samples), notes={**network.notes, MIXED_FIXED: notes}
        )

    def _simulate(self, module: nn.Module, data: Dataset, context: Context) -> _Design:
        calibrated_on, chosen = divide(data, self.samples, self.held_out, context.seed)
        folded, graph = fold(self, module, context.example)
        values = value_bits(folded, graph, as_tensors(data.train.inputs(calibrated_on)), self.width)
        return _Design(module=folded, graph=graph, values=values, width=self.width, data=data, chosen=chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """A network with its BatchNorms folded, as the FPGA computes it. `values`: value -> its integer bits. `chosen`: the
    samples of the training set that judge."""

    module: nn.Module
    graph: FixedGraph
    values: Mapping[str, int]
    width: int
    data: Dataset
    chosen: Array
    found: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """Those that the network computes with."""
        return used_layers(self.module, self.graph.sources)

    def grids(self, bits: Bits) -> Grids:
        """Of these bits of the layers' weights."""
        layers = self.layers
        for one in bits.items():
            if one not in self.found:
                self.found[one] = integer_bits(weight_of(layers[one[0]]), one[1])
        weights = {f"{name}:weight": self.found[name, count] for name, count in bits.items()}
        return Grids(width=self.width, integer={**weights, **self.values}, sources=self.graph.sources, weights=bits)

    def look(self, bits: Bits) -> Judgement:
        """How well the network does with these bits; {}: in float32."""
        if not bits:
            return judge(self.module, self.data.train, self.chosen, self.data.task)
        grids = self.grids(bits)
        with torch.no_grad(), running(self.module, self.graph, grids.value):
            parameters = grids.parameters(self.module)

            def forward(*inputs: Tensor) -> Outputs:
                outputs: Outputs = functional_call(self.module, parameters, inputs)
                return outputs

            return judge(forward, self.data.train, self.chosen, self.data.task)
