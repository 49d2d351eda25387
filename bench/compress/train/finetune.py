"""Fine-tuning that keeps what earlier steps pruned or shared, and the training that other steps use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, final

from torch import nn

from bench.compress.arguments import Count, Positive
from bench.compress.interface import Compressor, Context, Network
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.copies import duplicate
from bench.models.training.fit import Hook, Objective, Schedule, fit


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finetune(Compressor):
    """Trains on. Pruned weights stay zero and shared ones equal; the learning rate falls to 0."""

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = "Han et al. 2015, arXiv:1506.02626, section 3"
    trains: ClassVar[bool] = True
    epochs: Count = 2
    learning_rate: Positive = 1e-3

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, `InvalidInput` when the loss diverges."""
        module = duplicate(network.module)
        retrain(self, module, network, context, training_data(self, context))
        return replace(network, module=module)


class TrainingStep(Protocol):
    """The arguments that every step which trains has."""

    @property
    def epochs(self) -> int:
        """Passes over the training set."""

    @property
    def learning_rate(self) -> float:
        """The rate of the first batch; it falls to 0."""


def retrain(
    step: TrainingStep,
    module: nn.Module,
    network: Network,
    context: Context,
    data: Dataset,
    *,
    objective: Objective | None = None,
    after_step: Hook | None = None,
) -> None:
    """Trains `module` in place as the step's arguments say, for the data's task or another `objective`. Masks and shared weights of `network` hold.

    Raises `Unsupported` for a network whose parameters are all frozen, `InvalidInput` when the loss diverges; both name the step.
    """
    fit(
        module,
        data,
        Schedule(epochs=step.epochs, learning_rate=step.learning_rate),
        seed=context.seed,
        progress=context.progress,
        label=f"{step!r}",
        objective=objective,
        constraints=network.constraints,
        after_step=after_step,
    )


def training_data(step: object, context: Context) -> Dataset:
    """The data set. Raises `Unsupported`, naming the step, for a model without one."""
    if context.data is None:
        raise Unsupported(f"{step!r} trains, and this model has no data set; name one with --dataset")
    return context.data
