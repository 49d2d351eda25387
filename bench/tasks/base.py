"""The interface of a task: its loss, its score, and the targets it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"
"""What a network gives for a batch: one tensor, or a tuple of several, samples first."""
Forward: TypeAlias = "Callable[..., Outputs]"
"""(a tensor for each input) -> outputs: a network, or one with some of its weights replaced."""


ROUNDED = 1e-4
"""How far from 1 probabilities may sum: a softmax of 1,000 classes in float32 stays within 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreKind:
    """What a score is. `unit`: "fraction" for 0 to 1, else that of the targets or ""."""

    name: str
    unit: str = ""
    higher_is_better: bool = True


class Task(ABC):
    """What a network is trained for and judged by.

    `text`: how the user names it. `kind`: what its score is. `over_classes`: outputs are scores of classes, so that
    distillation can compare softmaxes of what `class_scores` gives. `labels`: targets are one class label for each sample.
    """

    text: str
    kind: ScoreKind
    over_classes: bool
    labels: bool

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar with a gradient. Raises `InvalidInput` for outputs that do not fit."""

    @abstractmethod
    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """How good the answers to these samples are. `outputs` may be what `reduce` gave."""

    def class_scores(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The scores of classes (N, classes, *places) in the outputs of a task over classes; one column is one logit.

        Outputs that are probabilities, as those of a softmax, give their logarithms, whose softmax they are.
        """
        del targets
        return without_softmax(one_output(outputs, self.text))

    def reduce(self, outputs: Outputs, targets: Tensor) -> Outputs:
        """What `score` needs of the outputs, a row for each sample; found once where many scores are taken."""
        del targets
        return outputs

    def step(self, forward: Forward, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The loss of one batch of training."""
        return self.loss(forward(*inputs), targets)

    @abstractmethod
    def take_targets(self, targets: Array, place: str) -> Array:
        """The targets (samples, ...) in the type that the loss takes. Raises `InvalidInput` naming `place`."""

    def check_part(self, targets: Iterable[Array], place: str) -> None:
        """Looks at all targets of a part, in pieces. Raises `InvalidInput` naming `place` where they judge nothing together."""
        del targets, place

    def check_scored(self, targets: Iterable[Array], place: str) -> None:
        """Looks at all targets of a part that judges, in pieces. Raises `InvalidInput` naming `place` where no score counts any."""
        del targets, place

    def explain_misfit(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
        """Why an output of this shape does not answer targets of that shape, "" if it does. Both without samples."""
        del outputs, targets
        return ""

    def drop(self, before: float, after: float) -> float:
        """How much worse `after` is than `before`, positive is worse: percentage points of a score in fractions.

        Per cent of `before` for any other score, infinite where that is 0.
        """
        worse = before - after if self.kind.higher_is_better else after - before
        if self.kind.unit == "fraction":
            return 100 * worse
        if before == 0:
            return 0.0 if worse == 0 else float("inf") if worse > 0 else float("-inf")
        return 100 * worse / abs(before)

    def identity(self) -> list[str]:
        """What names of cached results must say of it besides our own code."""
        return [self.text]


def one_output(outputs: Outputs, task: str) -> Tensor:
    """The only output. Raises `InvalidInput` for several: only a task of the user's own can weigh them."""
    if not isinstance(outputs, tuple):
        return outputs
    if len(outputs) == 1:
        return outputs[0]
    raise InvalidInput(
        f"task {task} judges one output, and the network gives {len(outputs)}: write a task of your own "
        "(--task package.module:Task), whose loss and score get all of them"
    )


def without_softmax(values: Tensor) -> Tensor:
    """Scores of classes along axis 1: the logarithms of `values` where all are 0 or more and every sum of classes is 1."""
    import torch

    with torch.no_grad():
        columns = values.is_floating_point() and values.dim() > 1 and values.shape[1] > 1
        ends_in_softmax = columns and bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < ROUNDED).all())
    return values.clamp(min=torch.finfo(values.dtype).tiny).log() if ends_in_softmax else values


def without_sigmoid(values: Tensor) -> Tensor:
    """Logits: those of `values` where all are 0 to 1 and not all the same, as a sigmoid gives them; else `values`."""
    import torch

    with torch.no_grad():
        low, high = (float(end) for end in values.aminmax())
        ends_in_sigmoid = values.is_floating_point() and 0 <= low < high <= 1
    return values.logit(torch.finfo(values.dtype).eps) if ends_in_sigmoid else values


def check_numbers(targets: Array, place: str) -> None:
    """Raises `InvalidInput` for targets without a sample, that are not numbers, or not finite."""
    if not targets.ndim or not len(targets):
        raise InvalidInput(f"{place} has shape {targets.shape}; wanted at least one sample, samples first")
    if targets.dtype.kind not in "fiub":
        raise InvalidInput(f"{place} is {targets.dtype}; wanted numbers")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise InvalidInput(f"{place} holds NaN or infinite values")
