"""Which output the targets judge, and which are classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.device.outputs import Output, Rows
from bench.device.stored import pieces_of
from bench.line.judged.distance import are_scores
from bench.line.judged.evaluation import Evaluation
from bench.tasks.own import OwnTask

Array = np.ndarray


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


def is_redeemed(place: int, judge: int | None, outputs: Sequence[Output], evaluation: Evaluation) -> bool:
    """Whether the targets say how right this output is."""
    if not evaluation.task.labels:
        return judge is not None and (isinstance(evaluation.task, OwnTask) or place == judge)
    return is_class(outputs[place], evaluation)


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


def is_finite(rows: Rows) -> bool:
    """Whether every value is a number."""
    return all(part.dtype.kind != "f" or bool(np.isfinite(part).all()) for part in pieces_of(rows))


def find_classes(rows: Rows) -> Array:
    """The class of each sample, of scores or of labels."""
    assert not isinstance(rows, tuple)
    return rows.argmax(axis=1) if rows.ndim == 2 else rows
