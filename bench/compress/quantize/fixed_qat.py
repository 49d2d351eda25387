"""Quantization-aware training for fixed point: the network learns on the very grid that the FPGA computes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch

from bench.compress.arguments import Count, Positive, Within
from bench.compress.calibration import drawn
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weight_of
from bench.compress.notes import BITS, HASHED, SHARED, WEIGHT_BITS
from bench.compress.quantize.fixed_graph import running
from bench.compress.quantize.fixed_grids import Grids, fold, integer_bits, used_layers, value_bits
from bench.compress.quantize.straight_through import fit_replaced
from bench.compress.train.finetune import training_data
from bench.errors import Unsupported
from bench.models.tensors import as_tensors


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FixedQat(Compressor):
    """Trains on in fixed point of `width` bits; the FPGA then computes with the trained grids.

    Integer bits are chosen once, for each tensor, by the least squared error on `samples` inputs. Weights, biases and
    activations round half up and saturate; gradients pass straight through where nothing saturates. BatchNorm is folded
    into the layer before it first, and dropout is off. The trained network is the FPGA's to the bit, residual sums and
    averages included, as far as sums fit in the 24 bits of a float32. `alpha` below 1 distils from the uncompressed
    model as distill does.
    """

    name: ClassVar[str] = "fixed_qat"
    source: ClassVar[str] = (
        "Coelho et al. 2021, arXiv:2006.10159; straight-through: Bengio et al. 2013, arXiv:1308.3432"
    )
    trains: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    epochs: Count = 10
    learning_rate: Positive = 1e-3
    width: Annotated[int, Within(low=2, high=18)] = 6
    samples: Count = 256
    alpha: Annotated[float, Within(low=0, high=1)] = 1.0
    temperature: Positive = 4.0

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, for shared weights, and if torch.export cannot trace the network."""
        data = training_data(self, context)
        self._refuse_shared(network)
        module, graph = fold(self, network.module, context.example)
        values = value_bits(module, graph, as_tensors(drawn(data, self.samples, context.seed)), self.width)
        layers = used_layers(module, graph.sources).items()
        weights = {f"{name}:weight": integer_bits(weight_of(layer), self.width) for name, layer in layers}
        grids = Grids(width=self.width, integer=weights | values, sources=graph.sources)
        with running(module, graph, grids.value):
            fit_replaced(self, module, network, context, grids.parameters)
        with torch.no_grad():
            for name, value in grids.parameters(module).items():
                module.get_parameter(name).copy_(value)
        return replace(network, module=module, quant=grids.spec(self.samples))

    def _refuse_shared(self, network: Network) -> None:
        """Folding scales each channel by its own factor, and training would then set each cluster to one of its values."""
        if not network.clusters:
            return
        steps = (("share", SHARED), ("hashed", HASHED), ("ternary or binary", WEIGHT_BITS), ("ternary or binary", BITS))
        found = " and ".join(dict.fromkeys(step for step, note in steps if note in network.notes))
        name = next(iter(network.clusters)).removesuffix(".weight")
        raise Unsupported(
            f"{self!r}: weights of layer {name!r} share values{f' by {found}' if found else ''}, which is lost where BatchNorm "
            f"is folded into them; leave {found or 'the step that shares them'} out, or take fixed, which trains nothing"
        )
