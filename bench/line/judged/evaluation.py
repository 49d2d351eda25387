"""The samples whose outputs are asked for: a test set, the user's own inputs, or drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.cache import key
from bench.compress.calibration import misfit
from bench.compress.pipeline import reference
from bench.data.datasets import Dataset
from bench.data.judging import Judges, store_judges
from bench.data.shift import SHIFTS
from bench.data.validation import draw_some
from bench.device.outputs import Output
from bench.device.stored import Samples, first_rows
from bench.inputs.draw import SAMPLES, describe_drawn, draw_inputs, warn_of_unbounded
from bench.inputs.layout import LAST, layout_of
from bench.inputs.split import Given
from bench.line.judged.distance import ENOUGH
from bench.models.training.predict import predict_all
from bench.tasks.base import Task
from bench.tasks.builtin import CLASSIFICATION
from bench.types import Compressed, Model, Progress, TensorSpec

Array = np.ndarray
NOT_SCORES = -1
"""In place of a number of classes: outputs are not scores of classes, so no first class can agree."""


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
    `own_spread`: of each output, as `bench.line.judged.distance.measure_own_spread` finds it for the uncompressed file.
    `unfit`: why there is no data. `uncorrupted`: why images that were to be corrupted are not.
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
    uncorrupted: str = ""

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
    """Clean test data, with `shifts` its corruptions, and another data set's test data: `limit` of each, drawn with the
    seed (0: all).

    The inputs are written into `folder`, once for all cells of one data set. Corruptions are made of images that are
    classified: they would move the targets of other tasks. Nothing of it if the data is `unfit`: that is the reason,
    "" if it fits.
    """
    if data is None or unfit:
        return Evaluation(inputs=(), targets=None, parts=(), unfit=unfit)
    test = draw_some(data.test, limit, seed)
    further = draw_some(other.test, len(test), seed) if other else None
    asked = shifts and data.task.labels and len(data.sample) == 1 and is_image(data.sample[0])
    layout = layout_of(data.input_shape)
    corrupted = asked and bool(layout)
    judges = Judges(test=test, shifts=corrupted, channels_last=layout == LAST, seed=seed, other=further)
    targets, size, rows = test.targets(slice(None)), len(test), len(further) if further else 0
    parts = [("clean", size), *((name, size) for name in SHIFTS if corrupted)]
    others = [further.targets(slice(None))] if further else []
    named = key(
        data=data.name, other=other.name if other else "", parts=parts, rows=rows, seed=seed, shape=data.input_shape
    )
    return Evaluation(
        inputs=store_judges(judges, folder / f"evaluate-{named[:12]}.npz"),
        targets=np.concatenate([*[targets] * len(parts), *others]),
        parts=(*parts, *([(other.name, rows)] if other else [])),
        source=f"{size} samples of the test set of {data.name}{'' if test is data.test else f', drawn with seed {seed}'}",
        classes=data.classes if data.task.labels else NOT_SCORES,
        task=data.task,
        uncorrupted=explain_layout(data) if asked and not corrupted else "",
    )


def explain_layout(data: Dataset) -> str:
    """Why images are not corrupted: which axes are rows and columns is not certain."""
    return (
        f"inputs of {data.name} have shape {data.input_shape}, and either the first or the last axis could have the "
        "channels: save images with fewer channels than rows and columns"
    )


def is_image(sample: Array) -> bool:
    """Whether these are floats (samples, channels, height, width) or (samples, height, width, channels)."""
    return sample.ndim == 4 and sample.dtype.kind == "f"


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
    """Outputs of the trained uncompressed network for these inputs; None for a model that is a file.

    A few samples run twice. Where they differ, the network draws random numbers, and all run twice.
    """
    module = reference(model, data=data, cache=cache, seed=seed, progress=progress)
    if module is None:
        return None
    few = [first_rows(one, ENOUGH) for one in inputs]
    both = zip(predict_all(module, few).values(), predict_all(module, few).values(), strict=True)
    draws = not all(np.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True) for one, other in both)
    again = predict_all(module, inputs) if draws else {}
    return tuple(
        Output(name=name, rows=rows, again=again.get(name)) for name, rows in predict_all(module, inputs).items()
    )


def keep_clean(outputs: Sequence[Output], evaluation: Evaluation) -> tuple[Output, ...]:
    """A file's outputs for the clean part only, where it has a row per sample."""
    samples = sum(size for _, size in evaluation.parts)
    if not samples:
        return tuple(outputs)
    clean = evaluation.parts[0][1]
    return tuple(replace(one, rows=one.rows[:clean]) if len(one.rows) == samples else one for one in outputs)
