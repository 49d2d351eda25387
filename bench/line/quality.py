"""The outputs of a deployed file, against the labels and against the uncompressed reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from bench.compress.calibration import misfit
from bench.compress.pipeline import reference
from bench.data.datasets import Dataset
from bench.data.shift import SHIFTS
from bench.errors import CellFailed
from bench.models.catalogue import is_reference
from bench.models.training.predict import predict
from bench.records import Quality
from bench.types import Compressed, Model, Progress

Array = np.ndarray
BASELINE_TOLERANCE = 1e-2
"""An uncompressed file whose outputs differ from the reference by more, relative to the largest, is wrong."""
ROUNDING = float(np.finfo(np.float32).eps)
"""Outputs that are all smaller than this are no larger for the tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The samples whose outputs are asked for, part after part, the clean part first.

    `x`: float32 (samples, *input shape); `labels`: int64 (samples,); `parts`: name and number of samples of each;
    `classes`: number of classes, 0 without labels.
    `reference`: outputs of the uncompressed network for the clean part; None if there is no such network.
    `unfit`: why there is no data.
    """

    x: Array | None
    labels: Array | None
    parts: tuple[tuple[str, int], ...]
    classes: int = 0
    reference: Array | None = None
    unfit: str = ""


NOTHING_TO_EVALUATE = Evaluation(x=None, labels=None, parts=())


def find_misfit(source: Compressed, data: Dataset | None) -> str:
    """Why a network cannot be evaluated on a data set; "" if it can. LiteRT converts floats to what its file takes."""
    return misfit(source.inputs, data, any_type="tflite" in source.files)


def make_evaluation(
    data: Dataset | None, other: Dataset | None, *, shifts: bool, seed: int, limit: int, unfit: str = ""
) -> Evaluation:
    """Clean test data, with `shifts` its corruptions, and another data set's test data (`limit` of each; 0: all).

    Nothing of it if the data is `unfit`: that is the reason, "" if it fits.
    """
    if data is None or unfit:
        return Evaluation(x=None, labels=None, parts=(), unfit=unfit)
    size = len(data.x_test) if not limit else min(limit, len(data.x_test))
    clean, labels = data.x_test[:size], data.y_test[:size]
    parts: list[tuple[str, Array, Array]] = [("clean", clean, labels)]
    if shifts and clean.ndim == 4:
        parts += [(name, shift(clean, seed), labels) for name, shift in SHIFTS.items()]
    if other is not None:
        rows = min(size, len(other.x_test))
        parts.append((other.name, other.x_test[:rows], other.y_test[:rows]))
    return Evaluation(
        x=np.concatenate([part[1] for part in parts]).astype(np.float32),
        labels=np.concatenate([part[2] for part in parts]),
        parts=tuple((name, len(x)) for name, x, _ in parts),
        classes=data.classes,
    )


def predict_reference(
    model: Model, x: Array, *, data: Dataset | None, cache: Path, seed: int, progress: Progress
) -> Array | None:
    """Outputs of the trained uncompressed network for `x`; None for a model that is a file."""
    module = reference(model, data=data, cache=cache, seed=seed, progress=progress)
    return None if module is None else predict(module, x)


def assess(outputs: Sequence[Array], evaluation: Evaluation) -> Quality:
    """Compares outputs with labels and reference.

    Raises `CellFailed` for outputs that are not finite numbers, or not one row per sample.
    """
    first = np.asarray(outputs[0], dtype=np.float64)
    if not all(np.isfinite(np.asarray(output, dtype=np.float64)).all() for output in outputs):
        raise CellFailed("the outputs hold NaN or infinity")
    accuracies = _accuracies(first, evaluation)
    agreed = _agreement(first, evaluation)
    return Quality(
        samples=len(first),
        accuracy=accuracies.pop("clean", None),
        reference_accuracy=_reference_accuracy(evaluation),
        output_max_abs_err=agreed[0],
        top1_agreement=agreed[1],
        shifted=accuracies,
    )


def find_baseline_error(quality: Quality, evaluation: Evaluation) -> str:
    """Why an uncompressed file must not be believed; "" if its outputs are the reference's."""
    if evaluation.reference is None or quality.output_max_abs_err is None:
        return ""
    scale = max(ROUNDING, float(np.abs(evaluation.reference).max()))
    if quality.output_max_abs_err <= BASELINE_TOLERANCE * scale:
        return ""
    return f"its outputs differ from the reference by up to {quality.output_max_abs_err:.3g}"


def find_chance(model: Model, quality: Quality, evaluation: Evaluation) -> str:
    """That an uncompressed network answers no better than by chance, and what to do; "" if it does better.

    Chance is 1/classes; the limit is the upper end of its 95 % binomial interval for so many samples.
    """
    if quality.accuracy is None or evaluation.classes < 2:
        return ""
    size = evaluation.parts[0][1]
    if quality.accuracy * size > binom.ppf(0.975, size, 1 / evaluation.classes):
        return ""
    return f"answers at chance on {model.data}: {_explain_chance(model)}"


def as_reference(quality: Quality) -> Quality:
    """What the uncompressed network would be said to do, where it was run beside the file."""
    return replace(quality, accuracy=quality.reference_accuracy)


def _explain_chance(model: Model) -> str:
    if model.file is None and model.weights is None and not model.train and not is_reference(model):
        return "its weights look untrained; load them in the function, give --weights, or ask for --train"
    if model.file is None and model.weights is None:
        return "the training taught it nothing"
    return "its weights look untrained, or it was trained on inputs prepared in another way (range, layout, classes)"


def explain_missing_accuracy(outputs: Sequence[Array], evaluation: Evaluation) -> str:
    """Why there is no accuracy; "" if there is one."""
    if evaluation.labels is None:
        return f"measured on drawn inputs: {evaluation.unfit}"
    if _scores(outputs[0], evaluation):
        return ""
    return f"an output of {outputs[0].shape[1:]} a sample does not score each of the data set's {evaluation.classes} classes"


def _scores(outputs: Array, evaluation: Evaluation) -> bool:
    """Whether these are scores of the classes (of any number of them, if the data set does not say how many)."""
    return outputs.ndim == 2 and evaluation.classes in (0, outputs.shape[1])


def _accuracies(outputs: Array, evaluation: Evaluation) -> dict[str, float]:
    if evaluation.labels is None or not _scores(outputs, evaluation):
        return {}
    if len(outputs) != len(evaluation.labels):
        raise CellFailed(f"{len(outputs)} outputs for {len(evaluation.labels)} samples")
    right, start, found = outputs.argmax(axis=1) == evaluation.labels, 0, {}
    for name, size in evaluation.parts:
        found[name] = float(right[start : start + size].mean())
        start += size
    return found


def _agreement(outputs: Array, evaluation: Evaluation) -> tuple[float | None, float | None]:
    """Largest absolute difference, and the share of samples with the same first class (of scores only)."""
    reference = evaluation.reference
    if reference is None:
        return None, None
    part = outputs[: len(reference)]
    if part.shape != reference.shape:
        raise CellFailed(f"outputs of shape {part.shape}, the reference has {reference.shape}")
    error = float(np.abs(part - reference).max())
    if not _scores(part, evaluation):
        return error, None
    return error, float((part.argmax(axis=1) == reference.argmax(axis=1)).mean())


def _reference_accuracy(evaluation: Evaluation) -> float | None:
    reference, labels = evaluation.reference, evaluation.labels
    if reference is None or labels is None or not _scores(reference, evaluation):
        return None
    return float((reference.argmax(axis=1) == labels[: len(reference)]).mean())
