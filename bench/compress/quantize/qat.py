"""Quantization-aware training: the network learns with the rounding that the runtime will do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, final

from torch import Tensor, nn

from bench.compress.arguments import Count, Positive, Within
from bench.compress.calibration import drawn
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import NORMS, weighted_layers
from bench.compress.quantize.activations import Traced, trace
from bench.compress.quantize.simulate import Grid, Ranges, calibrate, rounded_weights, simulated
from bench.compress.quantize.straight_through import fit_replaced
from bench.compress.train.finetune import training_data
from bench.errors import InvalidInput
from bench.models.copies import duplicate
from bench.types import QuantSpec

MOMENTUM = 0.01
"""How far each batch moves the ranges, 0 to 1; the value of torch.ao's MovingAverageMinMaxObserver."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Qat(Compressor):
    """Trains on with simulated int8 inference; the runtime then quantizes with the trained ranges.

    Gradients pass straight through the rounding. Ranges start as minima and maxima over `samples` inputs and
    follow the training batches. BatchNorm's statistics stay as they are. Tensors that no layer writes or reads
    are calibrated when the file is compiled. `weight_bits`, `per_channel`, `symmetric` and `keep_float`: as in
    int8. `alpha` below 1 distils from the uncompressed model as distill does.
    """

    name: ClassVar[str] = "qat"
    source: ClassVar[str] = "Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342"
    trains: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    epochs: Count = 2
    learning_rate: Positive = 1e-4
    weight_bits: Annotated[int, Within(low=4, high=8)] = 8
    per_channel: bool = True
    symmetric: bool = True
    samples: Count = 256
    keep_float: tuple[str, ...] = ()
    alpha: Annotated[float, Within(low=0, high=1)] = 1.0
    temperature: Positive = 4.0

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if self.weight_bits not in (4, 8):
            raise InvalidInput(f"qat(weight_bits={self.weight_bits}): weight_bits must be 4 or 8, which runtimes store")

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, or if torch.export cannot trace the network."""
        data = training_data(self, context)
        module = duplicate(network.module)
        layers = frozenset(weighted_layers(module, skip=self.keep_float))
        traced = trace(module, context.example)
        ranges = replace(calibrate(module, traced, drawn(data, self.samples, context.seed)), momentum=MOMENTUM)
        with simulated(module, traced, ranges, layers, self.grid()):
            fit_replaced(self, module, network, context, partial(self._weights, layers, traced))
        return replace(network, module=module, quant=self._spec(traced, ranges, layers))

    def grid(self) -> Grid:
        """How the simulation rounds."""
        return Grid(weight_bits=self.weight_bits, per_channel=self.per_channel, symmetric=self.symmetric)

    def _weights(self, layers: frozenset[str], traced: Traced, module: nn.Module) -> dict[str, Tensor]:
        """The rounded weights. Sets BatchNorm back to eval mode, so it uses its stored statistics in training too."""
        for part in module.modules():
            if isinstance(part, NORMS):
                part.eval()
        return rounded_weights(module, layers, traced, self.grid())

    def _spec(self, traced: Traced, ranges: Ranges, layers: frozenset[str]) -> QuantSpec:
        quantized = [item.name for item in traced.activations if item.pinned or item.layers & layers]
        return QuantSpec(
            kind="static",
            weight_bits=self.weight_bits,
            per_channel=self.per_channel,
            activation_symmetric=self.symmetric,
            samples=self.samples,
            keep_float=self.keep_float,
            ranges=tuple((name, *ranges.seen[name]) for name in quantized if name in ranges.seen),
        )
