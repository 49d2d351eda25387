"""Classification, multilabel, regression and segmentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from bench.errors import InvalidInput
from bench.tasks.base import (
    Array,
    Outputs,
    ScoreKind,
    Task,
    check_numbers,
    one_output,
    without_sigmoid,
    without_softmax,
)

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = 255
"""The label of places in a mask that count neither in the loss nor in the score, as in Pascal VOC."""
SMALLEST_STEP = 1e-3
"""The largest step of float32 between targets of a regression, as a share of their range."""
ACCURACY = ScoreKind(name="accuracy", unit="fraction")
PRECISION = ScoreKind(name="mean average precision", unit="fraction")
RMSE = ScoreKind(name="RMSE", unit="target's unit", higher_is_better=False)
MIOU = ScoreKind(name="mIoU", unit="fraction")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Task):
    """One class for each sample: outputs (N, classes) are scores or probabilities, targets (N,) labels.

    Scored by top-1 accuracy.
    """

    text: str = "classification"
    kind: ScoreKind = ACCURACY
    over_classes: bool = True
    labels: bool = True

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        from torch.nn import functional as F

        return F.cross_entropy(self.class_scores(outputs, targets), targets)

    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """The share of samples whose largest score is at the label."""
        scores = one_output(outputs, self.text)
        answers = scores.argmax(dim=1) if scores.dim() == 2 else scores
        return float((answers == targets).double().mean())

    def take_targets(self, targets: Array, place: str) -> Array:
        """int64 labels from 0."""
        if targets.ndim != 1 or len(targets) == 0:
            raise InvalidInput(f"{place} has shape {targets.shape}; wanted (N,), N > 0{_hint_labels(targets)}")
        if not np.issubdtype(targets.dtype, np.integer):
            raise InvalidInput(f"{place} is {targets.dtype}; wanted integers{_hint_labels(targets)}")
        if targets.min() < 0:
            raise InvalidInput(f"{place} has label {targets.min()}; labels start at 0")
        return targets.astype(np.int64, copy=False)


def _hint_labels(targets: Array) -> str:
    """How targets that are not labels become some, where that is plain."""
    if targets.dtype.kind in "USO":
        return ": number the classes from 0, as np.unique(names, return_inverse=True)[1] does"
    if targets.ndim == 2 and targets.shape[1] == 1:
        return ": one number a sample, as y[:, 0] has"
    if targets.ndim == 2 and np.isin(targets, (0, 1)).all() and (targets.sum(axis=1) == 1).all():
        return ": one-hot rows become labels by y.argmax(axis=1)"
    return ": for numbers to predict, --task regression" if targets.ndim == 1 and targets.dtype.kind == "f" else ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Multilabel(Task):
    """Any number of labels for each sample: outputs (N, labels) are logits or probabilities, targets (N, labels) 0 or 1.

    Scored by the mean of the average precisions of all labels that have a positive sample.
    """

    text: str = "multilabel"
    kind: ScoreKind = PRECISION
    over_classes: bool = False
    labels: bool = False

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Binary cross-entropy."""
        from torch.nn import functional as F

        values = one_output(outputs, self.text)
        if why := self.explain_misfit(tuple(values.shape[1:]), tuple(targets.shape[1:])):
            raise InvalidInput(f"task multilabel: {why}")
        return F.binary_cross_entropy_with_logits(without_sigmoid(values), targets)

    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """0 to 1. A label without a positive sample is left out."""
        from torchmetrics.functional.classification import binary_average_precision

        scores, wanted = one_output(outputs, self.text), targets.long()
        seen = [label for label in range(wanted.shape[1]) if bool(wanted[:, label].any())]
        each = [float(binary_average_precision(_rank(scores[:, label]), wanted[:, label])) for label in seen]
        return sum(each) / len(each) if each else 0.0

    def take_targets(self, targets: Array, place: str) -> Array:
        """float32 of 0 and 1, (N, labels)."""
        check_numbers(targets, place)
        if targets.ndim != 2:
            raise InvalidInput(f"{place} has shape {targets.shape}; wanted (N, labels) for --task multilabel")
        if not np.isin(targets, (0, 1)).all():
            raise InvalidInput(
                f"{place} holds other values than 0 and 1; --task multilabel wants 1 where a label holds"
            )
        return targets.astype(np.float32, copy=False)

    def check_scored(self, targets: Iterable[Array], place: str) -> None:
        """Raises `InvalidInput` where no sample has a label: there is no average precision."""
        if not any(each.any() for each in targets):
            raise InvalidInput(f"{place} is all 0; the score of --task multilabel needs a sample with a label")

    def explain_misfit(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
        """A logit for each label."""
        return (
            "" if outputs == targets else f"an output of {outputs} a sample has no logit for each of {targets} labels"
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(Task):
    """Numbers for each sample: outputs and targets have one shape; (N, 1) and (N,) are the same.

    Scored by the root mean squared error, in the targets' unit.
    """

    text: str = "regression"
    kind: ScoreKind = RMSE
    over_classes: bool = False
    labels: bool = False

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The mean squared error."""
        from torch.nn import functional as F

        return F.mse_loss(self._alike(outputs, targets), targets)

    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """The root mean squared error over all values."""
        from torchmetrics.functional.regression import mean_squared_error

        values = self._alike(outputs, targets).double().contiguous()
        return float(mean_squared_error(values, targets.double().contiguous(), squared=False))

    def take_targets(self, targets: Array, place: str) -> Array:
        """float32."""
        check_numbers(targets, place)
        with np.errstate(over="ignore"):
            converted = targets.astype(np.float32, copy=False)
        if not np.isfinite(converted).all():
            raise InvalidInput(f"{place} holds values beyond float32: scale them")
        return converted

    def check_part(self, targets: Iterable[Array], place: str) -> None:
        """Raises `InvalidInput` for values whose differences are lost in float32, as those of times since 1970 are."""
        ends = np.array([(values.min(), values.max()) for values in targets], np.float32)
        low, high = float(ends.min()), float(ends.max())
        step, largest = float(np.spacing(np.abs(ends).max())), max(abs(low), abs(high))
        if step > SMALLEST_STEP * (high - low) and (high > low or largest >= 2**24):
            raise InvalidInput(
                f"{place} has values from {low:.7g} to {high:.7g}, which float32 holds in steps of {step:.3g}: "
                "subtract their mean"
            )

    def explain_misfit(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
        """As many numbers as the targets have, axes of size 1 apart."""
        same = [size for size in outputs if size != 1] == [size for size in targets if size != 1]
        return "" if same else f"an output of {outputs} a sample does not answer targets of {targets}"

    def _alike(self, outputs: Outputs, targets: Tensor) -> Tensor:
        values = one_output(outputs, self.text)
        if why := self.explain_misfit(tuple(values.shape[1:]), tuple(targets.shape[1:])):
            raise InvalidInput(f"task regression: {why}")
        return values.reshape(targets.shape)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation(Task):
    """A class for each place: outputs (N, classes, *places) or (N, *places, classes) are scores, targets (N, *places)
    labels; 255 is left out.

    One output channel is the logit, or the probability, of class 1 against class 0. Scored by the intersection over union, the mean over
    the classes that occur (mIoU).
    """

    text: str = "segmentation"
    kind: ScoreKind = MIOU
    over_classes: bool = True
    labels: bool = False

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Cross-entropy, the mean over all places that count; 0 where none does."""
        from torch.nn import functional as F

        scores = _of_two(self.class_scores(outputs, targets))
        if not bool((targets != IGNORED).any()):
            return 0.0 * scores.sum()
        return F.cross_entropy(scores, targets, ignore_index=IGNORED)

    def class_scores(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """As of `Task`; outputs (N, *places, classes) come with their classes on axis 1."""
        values = self._turned(outputs, targets)
        return without_sigmoid(values) if values.shape[1] == 1 else without_softmax(values)

    def reduce(self, outputs: Outputs, targets: Tensor) -> Outputs:
        """The class at each place."""
        values = one_output(outputs, self.text)
        if values.shape == targets.shape and not values.is_floating_point():
            return values
        scores = self._turned(outputs, targets)
        return _of_two(without_sigmoid(scores) if scores.shape[1] == 1 else scores).argmax(dim=1)

    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """0 to 1, from the classes at all places together."""
        from torchmetrics.functional.classification import multiclass_jaccard_index

        answers = one_output(self.reduce(outputs, targets), self.text).long()
        counted = targets != IGNORED
        given, wanted = answers[counted], targets[counted]
        if not len(wanted):
            return 0.0
        classes = max(2, 1 + int(max(given.max(), wanted.max())))
        return float(multiclass_jaccard_index(given, wanted, num_classes=classes, average="macro"))

    def take_targets(self, targets: Array, place: str) -> Array:
        """int64 labels from 0, (N, *places). A mask (N, 1, H, W) loses its channel."""
        check_numbers(targets, place)
        masks = targets[:, 0] if targets.ndim == 4 and targets.shape[1] == 1 else targets
        if masks.ndim < 2 or masks.dtype.kind not in "iub":
            raise InvalidInput(
                f"{place} is {targets.dtype} of shape {targets.shape}; --task segmentation wants whole numbers (N, H, W)"
            )
        if masks.min() < 0:
            raise InvalidInput(f"{place} has label {masks.min()}; labels start at 0, and 255 is left out")
        return masks.astype(np.int64, copy=False)

    def check_part(self, targets: Iterable[Array], place: str) -> None:
        """Raises `InvalidInput` for masks without two labels that count, as those of 0 and 255 are."""
        labels = np.unique(np.concatenate([np.unique(masks) for masks in targets]))
        counted = labels[labels != IGNORED]
        if len(counted) < 2:
            only = f"no label but {counted[0]}" if len(counted) else "no label"
            left_out = (
                f" beside {IGNORED}, which is left out: where it is a class, number it from 0"
                if IGNORED in labels
                else ""
            )
            raise InvalidInput(f"{place} has {only}{left_out}; at least 2 are needed")

    def check_scored(self, targets: Iterable[Array], place: str) -> None:
        """Raises `InvalidInput` where every place is left out."""
        if not any((masks != IGNORED).any() for masks in targets):
            raise InvalidInput(f"{place} has no label but {IGNORED}, which is left out; at least one place must count")

    def explain_misfit(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
        """Scores of the classes at each place, or a label there."""
        if targets in (outputs[1:], outputs[:-1], outputs):
            return ""
        return f"an output of {outputs} a sample does not score the places of masks of {targets}"

    def _turned(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """(N, classes, *places). Raises `InvalidInput` for masks with a class that the network does not score."""
        values = one_output(outputs, self.text)
        if why := self.explain_misfit(tuple(values.shape[1:]), tuple(targets.shape[1:])):
            raise InvalidInput(f"task segmentation: {why}")
        turned = values if values.shape[2:] == targets.shape[1:] else values.movedim(-1, 1)
        classes = max(2, turned.shape[1])
        largest = int(targets.masked_fill(targets == IGNORED, 0).max())
        if largest >= classes:
            raise InvalidInput(
                f"task segmentation: a mask has label {largest}, the network scores {classes} classes: "
                f"number the labels from 0 to {classes - 1}, or {IGNORED} for what is left out"
            )
        return turned


def _of_two(scores: Tensor) -> Tensor:
    """One column becomes two: the cross-entropy of (0, x) is the binary one of the logit x."""
    import torch

    return torch.cat([torch.zeros_like(scores), scores], dim=1) if scores.shape[1] == 1 else scores


def _rank(scores: Tensor) -> Tensor:
    """The order of scores, equal ones alike, from 0 to 1: a sigmoid makes large logits equal."""
    import torch

    values, places = torch.unique(scores, return_inverse=True)
    ranks: Tensor = places.double() / max(1, len(values) - 1)
    return ranks


CLASSIFICATION = Classification()
BUILT_IN: dict[str, Task] = {task.text: task for task in (CLASSIFICATION, Multilabel(), Regression(), Segmentation())}
"""The tasks that need no code of the user's, by name."""
