"""The outputs of a deployed file, against the labels and against the uncompressed reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.device.outputs import Output, Rows
from bench.errors import CellFailed
from bench.line.judged.distance import (
    compare_outputs,
    is_integer,
    match_outputs,
    name_output,
)
from bench.line.judged.evaluation import Evaluation
from bench.line.judged.judge import find_classes, find_judge, is_class, is_finite, is_redeemed
from bench.records import OutputQuality, Quality, Score
from bench.tasks.own import OwnTask
from bench.tasks.scoring import measure_score


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
