"""Whether an uncompressed file may be believed: its outputs against the reference's, its accuracy against chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from scipy.stats import binom

from bench.device.outputs import Output
from bench.errors import CellFailed
from bench.line.judged.distance import ROUNDING, compare_outputs, explain_draws, match_outputs, name_output
from bench.line.judged.evaluation import Evaluation
from bench.models.catalogue import is_reference
from bench.records import AT_CHANCE, Quality
from bench.types import Model

BASELINE_TOLERANCE = 1e-2
"""An uncompressed file whose outputs differ from the reference by more, relative to the largest, is wrong."""

APART = 0.1
"""Relative error between two runtimes' outputs of one file from which one of them reads it in another way: integers of quantized
files stay below by their rounding."""


def find_baseline_error(quality: Quality, evaluation: Evaluation) -> str:
    """Why an uncompressed file must not be believed; "" if its outputs are the reference's."""
    references = match_outputs_of(quality, evaluation)
    for found, wanted in zip(quality.outputs, references, strict=True):
        if wanted is None or found.max_abs_err is None or found.is_own_noise:
            continue
        largest = max(float(np.abs(part).max(initial=0.0)) for part in wanted.rows)
        if found.max_abs_err > BASELINE_TOLERANCE * max(ROUNDING, largest):
            far = f"{name_output(found.name)} differs from the reference by up to {found.max_abs_err:.3g}"
            return far + explain_draws(found, wanted)
    return ""


def find_difference(
    outputs: Sequence[Output], others: Mapping[str, Sequence[Output]], own: Sequence[float], classes: int
) -> str:
    """That another runtime gives other outputs for the same uncompressed file and inputs; "" where none does.

    `others`: backend -> its outputs. `own`: spreads of two runs of this file. Outputs of other shapes are not compared.
    """
    for backend, other in others.items():
        with suppress(CellFailed):
            for found in compare_outputs(outputs, other, own, classes):
                if found.relative_rms is not None and found.relative_rms > APART and not found.is_own_noise:
                    return (
                        f"{name_output(found.name)} is {found.relative_rms:.2g} of its spread away from that of backend {backend}, for "
                        "the same file and inputs: one of the two computes something else"
                    )
    return ""


def match_outputs_of(quality: Quality, evaluation: Evaluation) -> list[Output | None]:
    """The reference of each judged output; None where it has none."""
    named = [Output(name=one.name, rows=()) for one in quality.outputs]
    return match_outputs(named, evaluation.reference or ())


def find_chance(model: Model, quality: Quality, evaluation: Evaluation) -> str:
    """That an uncompressed network answers no better than by chance, and what to do; "" if it does better.

    Chance is 1/classes; the limit is the upper end of its 95 % binomial interval for so many samples. Nothing is said of so few
    samples that all right answers may be chance.
    """
    if quality.accuracy is None or evaluation.classes < 2:
        return ""
    size = evaluation.parts[0][1]
    limit = binom.ppf(0.975, size, 1 / evaluation.classes)
    if limit >= size or quality.accuracy * size > limit:
        return ""
    return f"{AT_CHANCE} on {model.data}: {_explain_chance(model)}"


def _explain_chance(model: Model) -> str:
    if model.file is None and model.weights is None and not model.train and not is_reference(model):
        return "its weights look untrained; load them in the function, give --weights, or ask for --train"
    if model.file is None and model.weights is None:
        return "the training taught it nothing"
    return "its weights look untrained, or it was trained on inputs prepared in another way (range, layout, classes)"


def as_reference(quality: Quality) -> Quality:
    """What the uncompressed network would be said to do, where it was run beside the file."""
    return replace(quality, accuracy=quality.reference_accuracy)
