"""The outputs of a deployed file, against the labels and against the uncompressed reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from bench.cache import key
from bench.compress.calibration import misfit
from bench.compress.pipeline import reference
from bench.data.datasets import Dataset
from bench.data.judging import Judges, store_judges
from bench.data.shift import SHIFTS
from bench.device.outputs import Output, Rows
from bench.device.stored import Samples, first_rows, pieces_of
from bench.errors import CellFailed
from bench.inputs.draw import SAMPLES, describe_drawn, draw_inputs, warn_of_unbounded
from bench.inputs.split import Given
from bench.line.distance import (
    ROUNDING,
    are_scores,
    compare_outputs,
    is_integer,
    match_outputs,
    name_output,
)
from bench.models.catalogue import is_reference
from bench.models.training.predict import predict_all
from bench.records import OutputQuality, Quality, Score
from bench.tasks.base import Task
from bench.tasks.builtin import CLASSIFICATION
from bench.tasks.own import OwnTask
from bench.tasks.scoring import measure_score
from bench.types import Compressed, Model, Progress, TensorSpec

Array = np.ndarray
NOT_SCORES = -1
"""In place of a number of classes: outputs are not scores of classes, so no first class can agree."""
BASELINE_TOLERANCE = 1e-2
"""An uncompressed file whose outputs differ from the reference by more, relative to the largest, is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The samples whose outputs are asked for, part after part, the clean part first.

    `inputs`: an array (samples, *shape of a sample) for each input, in memory or in a file; () for a backend that runs
    nothing.
    `targets`: what the `task` takes, samples first; `parts`: name and number of samples of each.
    `classes`: 0 without labels, `NOT_SCORES` where outputs are not scores of classes.
    `source`: what the inputs are, in words. `drawn`: they are random, and no network predicts a reference for them.
    `notes`: what must be said of them.
    `reference`: outputs of the uncompressed network for the clean part; None if there is no such network.
    `own_spread`: of each output, as `bench.line.distance.measure_own_spread` finds it for the uncompressed file.
    `unfit`: why there is no data.
    """

    inputs: tuple[Samples, ...]
    targets: Array | None
    parts: tuple[tuple[str, int], ...]
    source: str = ""
    drawn: bool = False
    notes: tuple[str, ...] = ()
    classes: int = 0
    task: Task = CLASSIFICATION
    reference: tuple[Output, ...] | None = None
    own_spread: tuple[float, ...] = ()
    unfit: str = ""

    @property
    def clean_inputs(self) -> tuple[Samples, ...]:
        """Those of the clean part."""
        return tuple(first_rows(array, self.parts[0][1]) for array in self.inputs)


NOTHING_TO_EVALUATE = Evaluation(inputs=(), targets=None, parts=())


def find_misfit(source: Compressed, data: Dataset | None) -> str:
    """Why a network cannot be evaluated on a data set; "" if it can. LiteRT converts floats to what its file takes."""
    return misfit(source.inputs, data, any_type="tflite" in source.files)


def make_evaluation(
    data: Dataset | None,
    other: Dataset | None,
    *,
    shifts: bool,
    seed: int,
    limit: int,
    folder: Path,
    unfit: str = "",
) -> Evaluation:
    """Clean test data, with `shifts` its corruptions, and another data set's test data (`limit` of each; 0: all).

    The inputs are written into `folder`, once for all cells of one data set. Corruptions are made of images that are
    classified: they would move the targets of other tasks. Nothing of it if the data is `unfit`: that is the reason,
    "" if it fits.
    """
    if data is None or unfit:
        return Evaluation(inputs=(), targets=None, parts=(), unfit=unfit)
    size = len(data.test) if not limit else min(limit, len(data.test))
    rows = min(size, len(other.test)) if other else 0
    corrupted = shifts and data.task.labels and len(data.sample) == 1 and is_image(data.sample[0])
    judges = Judges(
        test=data.test,
        rows=size,
        shifts=corrupted,
        seed=seed,
        other=other.test if other else None,
        other_rows=rows,
    )
    targets = data.test.targets(slice(size))
    parts = [("clean", size), *((name, size) for name in SHIFTS if corrupted)]
    others = [other.test.targets(slice(rows))] if other else []
    named = key(
        data=data.name, other=other.name if other else "", parts=parts, rows=rows, seed=seed, shape=data.input_shape
    )
    return Evaluation(
        inputs=store_judges(judges, folder / f"evaluate-{named[:12]}.npz"),
        targets=np.concatenate([*[targets] * len(parts), *others]),
        parts=(*parts, *([(other.name, rows)] if other else [])),
        source=f"{size} samples of the test set of {data.name}",
        classes=data.classes if data.task.labels else NOT_SCORES,
        task=data.task,
    )


def evaluate_given(file: Path, given: Given, limit: int) -> Evaluation:
    """The user's own inputs (at most `limit`; 0: all), without labels."""
    arrays = given.judges(limit)
    size = len(arrays[0])
    return Evaluation(
        inputs=arrays,
        targets=None,
        parts=(("given", size),),
        source=f"{size} of {given.count} samples of {file.name}",
        notes=given.notes,
        unfit=f"{file.name} has inputs and no labels",
    )


def evaluate_drawn(inputs: Sequence[TensorSpec], seed: int, state: Sequence[str], unfit: str) -> Evaluation:
    """Drawn inputs, where nothing else fits: `unfit` says why."""
    arrays = draw_inputs(inputs, SAMPLES, seed, zeros=state)
    return Evaluation(
        inputs=arrays,
        targets=None,
        parts=(("drawn", SAMPLES),),
        source=f"{SAMPLES} drawn inputs, seed {seed} ({describe_drawn(inputs, state)})",
        drawn=True,
        notes=warn_of_unbounded(inputs, state),
        unfit=unfit,
    )


def predict_reference(
    model: Model, inputs: tuple[Samples, ...], *, data: Dataset | None, cache: Path, seed: int, progress: Progress
) -> tuple[Output, ...] | None:
    """Outputs of the trained uncompressed network for these inputs; None for a model that is a file."""
    module = reference(model, data=data, cache=cache, seed=seed, progress=progress)
    if module is None:
        return None
    return tuple(Output(name=name, rows=rows) for name, rows in predict_all(module, inputs).items())


def keep_clean(outputs: Sequence[Output], evaluation: Evaluation) -> tuple[Output, ...]:
    """A file's outputs for the clean part only, where it has a row per sample."""
    samples = sum(size for _, size in evaluation.parts)
    if not samples:
        return tuple(outputs)
    clean = evaluation.parts[0][1]
    return tuple(replace(one, rows=one.rows[:clean]) if len(one.rows) == samples else one for one in outputs)


def assess(outputs: Sequence[Output], evaluation: Evaluation) -> Quality:
    """Compares every output with labels and reference.

    Raises `CellFailed` for outputs that are not finite numbers, of another shape than the reference's, or not one
    row per sample.
    """
    for output in outputs:
        if not is_finite(output.rows):
            raise CellFailed(f"{name_output(output.name)} holds NaN or infinity")
    judge = find_judge(outputs, evaluation)
    labels = evaluation.task.labels
    accuracies = measure_accuracies(outputs[judge].rows, evaluation) if judge is not None and labels else {}
    found = compare_outputs(outputs, evaluation.reference, evaluation.own_spread, evaluation.classes)
    found = tuple(
        replace(one, redeemed=is_redeemed(place, judge, outputs, evaluation)) for place, one in enumerate(found)
    )
    return Quality(
        samples=len(outputs[0].rows),
        accuracy=accuracies.pop("clean", None),
        reference_accuracy=_reference_accuracy(outputs, judge, evaluation),
        output_max_abs_err=_find_worst(outputs, found),
        top1_agreement=_find_agreement(outputs, found),
        shifted=accuracies,
        outputs=found,
        labelled=0 if judge is None else evaluation.parts[0][1],
        score=None if labels else find_score(outputs, evaluation),
        reference_score=None if labels or judge is None else find_score(evaluation.reference or (), evaluation),
    )


def find_score(outputs: Sequence[Output], evaluation: Evaluation) -> Score | None:
    """Of the clean part, by the task; None without targets and without an output that the task judges.

    A task of the user's own gets every output. Raises `InvalidInput` as their code does, `CellFailed` unless there is
    one row per sample.
    """
    judge = find_judge(outputs, evaluation)
    if judge is None or evaluation.targets is None:
        return None
    clean = evaluation.parts[0][1]
    judged = outputs if isinstance(evaluation.task, OwnTask) else [outputs[judge]]
    rows = [one.rows[:clean] for one in judged if not isinstance(one.rows, tuple)]
    if any(len(one) != clean for one in rows):
        raise CellFailed(f"{len(rows[0])} outputs for {clean} samples")
    return measure_score(evaluation.task, rows, evaluation.targets[:clean])


def count_changed(
    outputs: Sequence[Output], before: Sequence[Output], evaluation: Evaluation
) -> tuple[int | None, int | None]:
    """Clean samples whose class only the file `before` has right, and only this file; None where either has no class."""
    if evaluation.targets is None or not evaluation.task.labels:
        return None, None
    right, clean = [], evaluation.parts[0][1]
    for each in (before, outputs):
        judge = find_judge(each, evaluation)
        if judge is None or len(each[judge].rows) < clean:
            return None, None
        right.append(find_classes(each[judge].rows)[:clean] == evaluation.targets[:clean])
    return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())


def is_redeemed(place: int, judge: int | None, outputs: Sequence[Output], evaluation: Evaluation) -> bool:
    """Whether the targets say how right this output is."""
    if not evaluation.task.labels:
        return judge is not None and (isinstance(evaluation.task, OwnTask) or place == judge)
    return is_class(outputs[place], evaluation)


def is_finite(rows: Rows) -> bool:
    """Whether every value is a number."""
    return all(part.dtype.kind != "f" or bool(np.isfinite(part).all()) for part in pieces_of(rows))


def is_image(sample: Array) -> bool:
    """Whether these are floats (samples, channels, height, width)."""
    return sample.ndim == 4 and sample.dtype.kind == "f"


def find_judge(outputs: Sequence[Output], evaluation: Evaluation) -> int | None:
    """The position of the output that the task judges: scores of the classes, else labels. None without any.

    For another task than classification, the first output that answers its targets; 0 for a task of the user's own.
    """
    if evaluation.targets is None:
        return None
    if not evaluation.task.labels:
        return _find_answer(outputs, evaluation)
    scores = [place for place, one in enumerate(outputs) if are_scores(one.rows, evaluation.classes)]
    labels = [place for place, one in enumerate(outputs) if are_labels(one.rows, evaluation.classes)]
    return next(iter([*scores, *labels]), None)


def _find_answer(outputs: Sequence[Output], evaluation: Evaluation) -> int | None:
    assert evaluation.targets is not None
    task, wanted = evaluation.task, evaluation.targets.shape[1:]
    shapes = [None if isinstance(one.rows, tuple) else one.rows.shape[1:] for one in outputs]
    if isinstance(task, OwnTask):
        return 0 if shapes and None not in shapes else None
    fits = [place for place, shape in enumerate(shapes) if shape is not None and not task.explain_misfit(shape, wanted)]
    return next(iter(fits), None)


def is_class(output: Output, evaluation: Evaluation) -> bool:
    """Whether the labels say how right this output is."""
    if evaluation.targets is None:
        return False
    return are_scores(output.rows, evaluation.classes) or are_labels(output.rows, evaluation.classes)


def are_labels(rows: Rows, classes: int) -> bool:
    """Whether these are integers (samples,), each one of the classes (any that is not negative if `classes` is 0)."""
    if isinstance(rows, tuple) or rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows):
        return False
    return bool(rows.min() >= 0 and (not classes or rows.max() < classes))


def find_baseline_error(quality: Quality, evaluation: Evaluation) -> str:
    """Why an uncompressed file must not be believed; "" if its outputs are the reference's."""
    references = match_outputs_of(quality, evaluation)
    for found, wanted in zip(quality.outputs, references, strict=True):
        if wanted is None or found.max_abs_err is None or found.is_own_noise:
            continue
        largest = max(float(np.abs(part).max(initial=0.0)) for part in wanted.rows)
        if found.max_abs_err > BASELINE_TOLERANCE * max(ROUNDING, largest):
            return f"{name_output(found.name)} differs from the reference by up to {found.max_abs_err:.3g}"
    return ""


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


def match_outputs_of(quality: Quality, evaluation: Evaluation) -> list[Output | None]:
    """The reference of each judged output; None where it has none."""
    named = [Output(name=one.name, rows=()) for one in quality.outputs]
    return match_outputs(named, evaluation.reference or ())


def measure_accuracies(rows: Rows, evaluation: Evaluation) -> dict[str, float]:
    """The share of right classes in each part. Raises `CellFailed` unless there is one row per sample."""
    assert evaluation.targets is not None
    if len(rows) != len(evaluation.targets):
        raise CellFailed(f"{len(rows)} outputs for {len(evaluation.targets)} samples")
    right, start, found = find_classes(rows) == evaluation.targets, 0, {}
    for name, size in evaluation.parts:
        found[name] = float(right[start : start + size].mean())
        start += size
    return found


def find_classes(rows: Rows) -> Array:
    """The class of each sample, of scores or of labels."""
    assert not isinstance(rows, tuple)
    return rows.argmax(axis=1) if rows.ndim == 2 else rows


def _reference_accuracy(outputs: Sequence[Output], judge: int | None, evaluation: Evaluation) -> float | None:
    if judge is None or evaluation.reference is None or evaluation.targets is None or not evaluation.task.labels:
        return None
    reference = match_outputs(outputs, evaluation.reference)[judge]
    if reference is None or not is_class(reference, evaluation):
        return None
    return float((find_classes(reference.rows) == evaluation.targets[: len(reference.rows)]).mean())


def _find_worst(outputs: Sequence[Output], found: Sequence[OutputQuality]) -> float | None:
    """The largest error of the float outputs; of all outputs where none is a float."""
    told = [(one, is_integer(output.rows)) for output, one in zip(outputs, found, strict=True) if one.counts]
    floats = [one.max_abs_err for one, integer in told if not integer and one.max_abs_err is not None]
    every = [one.max_abs_err for one, _ in told if one.max_abs_err is not None]
    return max(floats or every, default=None)


def _find_agreement(outputs: Sequence[Output], found: Sequence[OutputQuality]) -> float | None:
    """Of the first scores, else of the first labels: integers, one per sample."""
    told = [
        (is_integer(output.rows), one.agreement)
        for output, one in zip(outputs, found, strict=True)
        if one.agreement is not None
        and not one.own_spread
        and np.ndim(output.rows) == 1 + (not is_integer(output.rows))
    ]
    return next((agreement for _, agreement in sorted(told, key=lambda one: one[0])), None)
