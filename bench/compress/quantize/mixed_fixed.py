"""Mixed precision on an FPGA: for each layer's weights as few bits as the score allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.compress.arguments import Count, Positive, Within
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weight_of, weighted_layers
from bench.compress.notes import MIXED_FIXED
from bench.compress.quantize.fixed_graph import running
from bench.compress.quantize.fixed_grids import Grids, fold, gather, integer_bits
from bench.compress.quantize.mixed import multiplications
from bench.errors import InvalidInput, Unsupported
from bench.models.tensors import as_tensors
from bench.models.training.judge import Judgement, judge
from bench.tasks.base import Outputs
from bench.types import QuantSpec

Bits = Mapping[str, int]
"""Layer -> bits of its weights."""
Look = Callable[[Bits], Judgement]
"""(bits) -> how well the network does on the held-out samples then."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixedFixed(Compressor):
    """Fixed point as `fixed`, with as few bits for each layer's weights as hold the score within `max_drop_pp` points of float32.

    Simulates the design in torch, on the grids that the FPGA gets, and judges it on `held_out` examples of the training set
    that set no grid, never on the test set. Points are as in sensitivity. Values have `width` bits. Weights begin with as
    many and lose them one by one, down to `narrowest`: first the bit whose loss, with the other layers whole, rises least for
    each multiplication. A layer whose next bit costs too much is left as it is. The notes have every figure.
    """

    name: ClassVar[str] = "mixed_fixed"
    source: ClassVar[str] = (
        "Dong et al. 2019, HAWQ, arXiv:1905.03696, its sensitivities measured; bits of each layer on FPGAs: Coelho et al. 2021, "
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
        if context.data is None:
            raise Unsupported(f"{self!r} looks at the score, and this model has no data set; name one with --dataset")
        module, look, grids = self._simulate(network.module, context)
        layers = weighted_layers(module)
        task, whole = context.data.task, look({})
        wide = dict.fromkeys(layers, self.width)
        everything = look(wide)

        def fits(found: Judgement) -> bool:
            return task.drop(whole.score, found.score) <= self.max_drop_pp

        if not fits(everything):
            raise Unsupported(
                f"{self!r}: {self.width} bits for all weights drop more; allow more bits or a larger drop"
            )
        alone = {
            (name, bits): look({**wide, name: bits}).loss
            for name in layers
            for bits in range(self.width - 1, self.narrowest - 1, -1)
        } | {(name, self.width): everything.loss for name in layers}
        macs = multiplications(module, layers, context.example)
        bits = take_bits(wide, self.narrowest, alone, macs, lambda asked: fits(look(asked)))
        scores = {"float32": whole.score, "fixed": everything.score, "mixed": look(bits).score}
        losses = {
            name: {str(count): alone[name, count] for count in range(self.narrowest, self.width)} for name in layers
        }
        notes = {"weight_bits": bits, "held_out_score": scores, "loss_alone": losses}
        spec = QuantSpec(
            kind="fixed",
            weight_bits=self.width,
            activation_bits=self.width,
            per_channel=False,
            samples=self.samples,
            ranges=grids(bits).ranges,
            layer_bits=tuple((name, count) for name, count in bits.items() if count != self.width),
        )
        return replace(network, quant=spec, notes={**network.notes, MIXED_FIXED: notes})

    def _simulate(self, module: nn.Module, context: Context) -> tuple[nn.Module, Look, Callable[[Bits], Grids]]:
        """The network with its BatchNorms folded, what judges it with some bits ({}: in float32), and the grids of these.

        Grids are of the first inputs of a seeded order, scores of the last.
        """
        data = context.data
        assert data is not None
        order = np.random.default_rng(context.seed).permutation(len(data.train))
        chosen = order[-min(self.held_out, len(order) // 2) :]
        module, graph = fold(self, module, context.example)
        given = as_tensors(data.train.inputs(order[: min(self.samples, -(-len(order) // 2))]))
        values = {name: integer_bits(value, self.width) for name, value in gather(module, graph, given).items()}

        def grids(bits: Bits) -> Grids:
            layers = weighted_layers(module).items()
            weights = {f"{name}:weight": integer_bits(weight_of(layer), bits[name]) for name, layer in layers}
            return Grids(width=self.width, integer=weights | values, sources=graph.sources, weights=bits)

        def look(bits: Bits) -> Judgement:
            if not bits:
                return judge(module, data.train, chosen, data.task)
            found = grids(bits)
            with torch.no_grad(), running(module, graph, found.value):
                parameters = found.parameters(module)

                def forward(*inputs: Tensor) -> Outputs:
                    outputs: Outputs = functional_call(module, parameters, inputs)
                    return outputs

                return judge(forward, data.train, chosen, data.task)

        return module, look, grids


def take_bits(
    wide: Bits,
    narrowest: int,
    alone: Mapping[tuple[str, int], float],
    macs: Mapping[str, int],
    fits: Callable[[Bits], bool],
) -> dict[str, int]:
    """The bits of each layer once no further one can go. `alone`: (layer, bits) -> the loss with only this layer changed."""
    bits, open_ = dict(wide), {name for name, count in wide.items() if count > narrowest}

    def price(name: str) -> tuple[float, str]:
        """How much the loss rises for each multiplication that loses a bit; names settle what is equal."""
        return (alone[name, bits[name] - 1] - alone[name, bits[name]]) / max(macs[name], 1), name

    while open_:
        name = min(open_, key=price)
        asked = {**bits, name: bits[name] - 1}
        if fits(asked):
            bits = asked
        if bits != asked or bits[name] == narrowest:
            open_.discard(name)
    return bits
