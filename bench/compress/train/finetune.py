"""Steps that train: fine-tuning that keeps what earlier steps pruned or shared."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, final

from bench.compress.arguments import Count, Positive
from bench.compress.interface import Compressor, Context, Network
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.train import fit


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finetune(Compressor):
    """Trains on, pruned weights staying zero and shared ones equal; the learning rate falls to 0."""

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = "Han et al. 2015, arXiv:1506.02626, section 3"
    trains: ClassVar[bool] = True
    epochs: Count = 2
    learning_rate: Positive = 1e-3

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, `InvalidInput` when the loss diverges."""
        data = training_data(self, context)
        module = copy.deepcopy(network.module)
        fit(
            module,
            data,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            seed=context.seed,
            progress=context.progress,
            masks=network.masks,
            clusters=network.clusters,
            label=f"{self!r}",
        )
        return replace(network, module=module)


def training_data(step: Compressor, context: Context) -> Dataset:
    """The data set. Raises `Unsupported` for a model without one."""
    if context.data is None:
        raise Unsupported(f"{step!r} trains, and this model has no data set; name one")
    return context.data
