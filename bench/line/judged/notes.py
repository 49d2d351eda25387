"""What is said of outputs beside their figures: why a figure is missing, random numbers, rows that do not compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.device.outputs import Output, Rows
from bench.line.judged.distance import name_output
from bench.line.judged.evaluation import Evaluation
from bench.line.judged.judge import find_judge
from bench.records import OutputQuality, Quality

GUESSING_DEVIATIONS = 2.0
"""Standard deviations above guessing up to which an accuracy is that of guessing."""


def explain_missing(outputs: Sequence[Output], quality: Quality, evaluation: Evaluation) -> dict[str, str]:
    """CSV column -> why it is empty."""
    missing = {}
    if accuracy := explain_missing_accuracy(outputs, evaluation):
        missing["accuracy"] = accuracy
    if unjudged := explain_unjudged(outputs, evaluation):
        missing["score"] = unjudged
    if evaluation.uncorrupted:
        missing["shifted_accuracy"] = evaluation.uncorrupted
    uncounted = [one for one in quality.outputs if not one.counts and (one.is_own_noise or one.is_shifted)]
    if evaluation.reference is not None and uncounted and quality.output_max_abs_err is None:
        columns = ("output_max_abs_err", "output_relative_rms")
        missing |= dict.fromkeys(columns, explain_uncounted(uncounted[0]))
    random = [one for one in quality.outputs if one.own_spread and one.agreement is not None]
    if random and quality.top1_agreement is None:
        missing["top1_agreement"] = describe_own_spread(random[0])
    return missing


def explain_uncounted(found: OutputQuality) -> str:
    """Why the figures of an output do not count."""
    return describe_own_spread(found) if found.is_own_noise else describe_length(found)


def explain_missing_accuracy(outputs: Sequence[Output], evaluation: Evaluation) -> str:
    """Why there is no accuracy; "" if there is one."""
    if evaluation.targets is not None and not evaluation.task.labels:
        return f"task {evaluation.task.text} has no accuracy: its score is {evaluation.task.kind.name}"
    return explain_unjudged(outputs, evaluation)


def explain_unjudged(outputs: Sequence[Output], evaluation: Evaluation) -> str:
    """Why the task judges none of the outputs; "" if it judges one."""
    if evaluation.targets is None:
        return f"measured on {'drawn' if evaluation.drawn else 'given'} inputs: {evaluation.unfit}"
    if find_judge(outputs, evaluation) is not None:
        return ""
    shapes = ", ".join(dict.fromkeys(describe_shape(one.rows) for one in outputs))
    if not evaluation.task.labels:
        return f"task {evaluation.task.text}: an output of {shapes} does not answer targets of {evaluation.targets.shape[1:]}"
    return f"an output of {shapes} a sample does not score each of the data set's {evaluation.classes} classes"


def describe_shape(rows: Rows) -> str:
    """Of one row: "(3, 4)"; "varying length" where rows differ."""
    return "varying length" if isinstance(rows, tuple) else str(tuple(rows.shape[1:]))


def describe_noise(quality: Quality) -> tuple[str, ...]:
    """Says that the network draws random numbers, and by how much two runs of its uncompressed file differ."""
    random = [one for one in quality.outputs if one.own_spread]
    return (describe_own_spread(max(random, key=lambda one: one.own_spread)),) if random else ()


def describe_own_spread(found: OutputQuality) -> str:
    """How much of an output is random."""
    name = name_output(found.name)
    if np.isinf(found.own_spread):
        return f"the network draws random numbers: two runs of the baseline give {name} other lengths"
    return (
        f"the network draws random numbers: two runs of the baseline differ by {found.own_spread:.2g} "
        f"of the spread of {name}"
    )


def describe_uncompared(quality: Quality, evaluation: Evaluation) -> tuple[str, ...]:
    """Outputs whose length depends on the input, and on how many inputs they could be compared."""
    if evaluation.reference is None:
        return ()
    return tuple(describe_length(one) for one in quality.outputs[: len(evaluation.reference)] if one.varying)


def describe_length(found: OutputQuality) -> str:
    """On how many inputs an output of varying length could be compared."""
    name = f"{name_output(found.name)} has another length for each input"
    if not found.compared:
        return f"{name}: not compared"
    return f"{name}: compared on {found.compared} of {found.rows}, where both files give the same length"


def explain_chance(accuracy: float | None, baseline: float | None, evaluation: Evaluation) -> str:
    """Says that a compressed file only guesses while its baseline does not; "" otherwise."""
    classes = evaluation.classes
    if accuracy is None or baseline is None or classes < 2:
        return ""
    guessing = 1 / classes
    limit = guessing + GUESSING_DEVIATIONS * float(np.sqrt(guessing * (1 - guessing) / evaluation.parts[0][1]))
    if accuracy > limit or baseline <= limit:
        return ""
    return (
        f"its accuracy of {accuracy:.1%} is that of guessing among {classes} classes, its baseline's is {baseline:.1%}"
    )
