"""How far the outputs of a file are from those of the uncompressed network, each relative to its own spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bench.device.outputs import SAME, Output, Rows
from bench.errors import CellFailed
from bench.records import OutputQuality

Array = np.ndarray
TOO_FAR = 0.5
"""Relative root mean square above which an output is not that of the same network. Honest int8 has 0.01 to 0.2."""
TOO_FEW_AGREE = 0.5
"""Share of equal first classes, or equal labels, below which an output is not that of the same network."""
ENOUGH = 16
"""Least number of samples whose agreement says something."""
HARDLY_VARIES = 0.1
"""Least spread, as a part of the root mean square: an output that hardly depends on the inputs is held to this."""
ROUNDING = float(np.finfo(np.float32).eps)
CHUNK = 256
"""Rows compared at once."""


def compare_outputs(
    outputs: Sequence[Output], reference: Sequence[Output] | None, own: Sequence[float], classes: int
) -> tuple[OutputQuality, ...]:
    """One answer per output. `own`: `measure_own_spread` of the uncompressed file. `classes`: 0 for any number.

    Outputs are matched by name where both have the same names, else by position; the reference may have fewer.
    Raises `CellFailed` for an output whose rows all have another shape than the reference's.
    """
    matched = match_outputs(outputs, reference or ())
    return tuple(
        compare_output(output, matched[place], own[place] if place < len(own) else 0.0, classes)
        for place, output in enumerate(outputs)
    )


def match_outputs(outputs: Sequence[Output], reference: Sequence[Output]) -> list[Output | None]:
    """The reference of each output; None where it has none."""
    by_name = {output.name: output for output in reference}
    if len(by_name) == len(outputs) and set(by_name) == {output.name for output in outputs}:
        return [by_name[output.name] for output in outputs]
    return [*reference[: len(outputs)], *[None] * (len(outputs) - len(reference))]


def compare_output(output: Output, reference: Output | None, own_spread: float, classes: int) -> OutputQuality:
    """Error, relative error and agreement over the rows that have the reference's shape."""
    found = OutputQuality(
        name=output.name, rows=len(output.rows), varying=isinstance(output.rows, tuple), own_spread=own_spread
    )
    if reference is None:
        return found
    pairs = list(pair_rows(output, reference))
    found = replace(found, rows=len(reference.rows), varying=found.varying or isinstance(reference.rows, tuple))
    if not pairs:
        return found
    largest, relative = measure_distance(pairs)
    return replace(
        found,
        compared=sum(len(ours) for ours, _ in pairs),
        max_abs_err=largest,
        relative_rms=relative,
        agreement=measure_agreement(pairs, reference.rows, classes),
    )


def pair_rows(output: Output, reference: Output) -> Iterator[tuple[Array, Array]]:
    """Rows of both with the same shape, many at once where every row has one shape. Only the reference's rows count."""
    ours, theirs = output.rows, reference.rows
    if isinstance(ours, tuple) or isinstance(theirs, tuple):
        for one, other in zip(ours, theirs, strict=False):
            if one.shape == other.shape:
                yield one[None], other[None]
        return
    ours = ours[: len(theirs)]
    if ours.shape != theirs.shape:
        raise CellFailed(f"{name_output(output.name)} has shape {ours.shape}, the reference has {theirs.shape}")
    for start in range(0, len(ours), CHUNK):
        yield ours[start : start + CHUNK], theirs[start : start + CHUNK]


def measure_distance(pairs: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Largest difference, and the root mean square of the difference over the reference's spread.

    The spread is the standard deviation over the samples, pooled over the places of a row, and `HARDLY_VARIES` of the
    root mean square at least. Rows of several shapes, and a single row, have only the deviation of all their values.
    """
    if not any(theirs.size for _, theirs in pairs):
        return 0.0, 0.0
    mean = find_mean([theirs for _, theirs in pairs])
    largest = squares = power = variance = 0.0
    for ours, theirs in pairs:
        wanted = theirs.astype(np.float64)
        difference = ours.astype(np.float64) - wanted
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
        squares += float(np.square(difference).sum())
        power += float(np.square(wanted).sum())
        variance += float(np.square(wanted - mean).sum())
    if largest <= ROUNDING:
        return largest, 0.0
    spread = max(variance, HARDLY_VARIES**2 * power)
    return largest, float(np.sqrt(squares / spread)) if spread else float("inf")


def find_mean(rows: Sequence[Array]) -> Array | float:
    """The mean row over all samples; the mean of all values where rows differ in shape, or there is only one."""
    count = sum(len(part) for part in rows)
    if count > 1 and len({part.shape[1:] for part in rows}) == 1:
        total: Array = np.sum([part.sum(axis=0, dtype=np.float64) for part in rows], axis=0)
        return total / count
    return sum(float(part.sum(dtype=np.float64)) for part in rows) / sum(part.size for part in rows)


def measure_agreement(pairs: Sequence[tuple[Array, Array]], rows: Rows, classes: int) -> float | None:
    """Of scores: the share of rows with the same first class. Of integers: the share of equal values. Else None."""
    if is_integer(rows):
        return mean_over(np.equal(ours, theirs) for ours, theirs in pairs)
    if not are_scores(rows, classes):
        return None
    return mean_over(ours.argmax(axis=1) == theirs.argmax(axis=1) for ours, theirs in pairs)


def mean_over(parts: Iterator[Array]) -> float:
    """The mean of all values together."""
    sums = [(int(part.sum()), part.size) for part in parts]
    return sum(right for right, _ in sums) / max(1, sum(size for _, size in sums))


def are_scores(rows: Rows, classes: int) -> bool:
    """Whether these are floats (samples, classes), a score for each class; of at least two where `classes` is 0."""
    if isinstance(rows, tuple) or rows.dtype.kind != "f" or rows.ndim != 2:
        return False
    width = int(rows.shape[1])
    return width == classes if classes else width >= 2


def measure_own_spread(outputs: Sequence[Output]) -> tuple[float, ...]:
    """Relative root mean square between two runs of one file, for each output. 0: the second run was the same.

    Infinite where the two runs have no row of the same shape.
    """
    return tuple(_own_spread(output) for output in outputs)


def _own_spread(output: Output) -> float:
    if output.again is None:
        return 0.0
    pairs = list(pair_rows(Output(name=output.name, rows=output.again), output))
    return measure_distance(pairs)[1] if pairs else float("inf")


def find_far(qualities: Sequence[OutputQuality], references: Sequence[Output | None]) -> tuple[str, ...]:
    """Why a compressed file's outputs are not those of its network: a reason for each, with the figure.

    An output with an accuracy is judged by that instead.
    """
    judged = zip(qualities, references, strict=True)
    return tuple(
        reason
        for quality, reference in judged
        if reference is not None and not quality.redeemed and (reason := explain_distance(quality, reference))
    )


def explain_distance(quality: OutputQuality, reference: Output) -> str:
    """Why one output is too far from its reference; "" if it is near, or if its figures do not count."""
    if quality.relative_rms is None or not quality.counts:
        return ""
    name = name_output(quality.name)
    beyond = float(np.sqrt(quality.relative_rms**2 - quality.own_spread**2))
    few = not quality.own_spread and disagrees(quality, reference)
    if is_integer(reference.rows):
        labels = np.ndim(reference.rows[0]) == 0
        wrong = few and (labels or beyond > TOO_FAR)
        return f"{name} equals the uncompressed network's in {quality.agreement:.0%} of its values" if wrong else ""
    if beyond > TOO_FAR:
        return describe_distance(name, beyond, quality.max_abs_err) + explain_draws(quality, reference)
    share = f"{quality.agreement:.0%} of {quality.compared} samples" if few else ""
    return f"{name} has the same first class as the uncompressed network's for {share}" if few else ""


def describe_distance(name: str, beyond: float, largest: float | None) -> str:
    """A relative error in a sentence."""
    if np.isinf(beyond):
        return f"{name} is always 0 in the uncompressed network, and up to {largest:.3g} here"
    return f"{name} is {beyond:.2g} of its own spread away from the uncompressed network's"


def explain_draws(quality: OutputQuality, reference: Output) -> str:
    """That the torch network draws random numbers and its file does not, and what to do; "" where that is not so."""
    if quality.own_spread or reference.again is None:
        return ""
    largest, relative = measure_distance([*pair_rows(replace(reference, rows=reference.again), reference)])
    if relative < SAME:  # both runs of all outputs are kept where one of them draws
        return ""
    return (
        f": the network draws random numbers, by which two runs of it differ by up to {largest:.3g}, and its file draws none; "
        "a dropout that stays on wants F.dropout(x, training=self.training)"
    )


def disagrees(quality: OutputQuality, reference: Output) -> bool:
    """Whether too few of enough samples agree, or no more than by chance."""
    if quality.compared < ENOUGH or quality.agreement is None:
        return False
    chance = 1 / reference.rows[0].shape[0] if are_scores(reference.rows, 0) else 0.0
    return quality.agreement < TOO_FEW_AGREE or quality.agreement <= chance


def is_integer(rows: Rows) -> bool:
    """Whether the values are integers or truth values."""
    return (rows[0] if isinstance(rows, tuple) else rows).dtype.kind in "iub"


def name_output(name: str) -> str:
    """An output in a sentence."""
    return f"output {name!r}" if name else "its output"
