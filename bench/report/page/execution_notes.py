"""What ran, in words: partitions, kernels, layout, conversions, and where the time went.

Everything comes from a record's `precision`, `execution` and `profile`. A backend that does not fill a field gets no
words for it, and no backend is known by name here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.records import Execution, Record
from bench.report.text import percent_of

TOP = 3
"""Operators named by their share of the time."""
LAYOUT = re.compile(r"^(transpose|reorderinput|reorderoutput|reformat)\b|nchwtonhwc|nhwctonchw", re.IGNORECASE)
"""Operators that only move numbers in memory. A TRANSPOSE_CONV computes."""
NUMBERS = re.compile(r"^(quantize|dequantize|quantizelinear|dequantizelinear|convert|cast)\b", re.IGNORECASE)
"""Operators that only turn one type of number into another."""
NOTHING_RAN = Execution()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that a record says about how it ran."""

    what: str
    text: str


def describe_execution(record: Record) -> list[Note]:
    """All that a record says, in the order of `DESCRIPTIONS`."""
    return [Note(what=what, text=text) for what, describe in DESCRIPTIONS if (text := describe(record))]


def execution_of(record: Record) -> Execution:
    """What the session reported; an empty one where no session opened."""
    return record.execution or NOTHING_RAN


def describe_partitions(record: Record) -> str:
    """How many operators a delegate took, in how many partitions, and which it left; or the nodes of each provider."""
    ran = execution_of(record)
    if ran.operators and ran.delegated is not None and ran.partitions is not None:
        rest = f"; not taken: {tally(ran.not_delegated)}" if ran.not_delegated else ""
        where = f" in {ran.partitions} partition{'' if ran.partitions == 1 else 's'}" if ran.partitions else ""
        return f"{ran.delegated} of {sum(ran.operators.values())} operators delegated{where}{rest}"
    nodes = ran.nodes_by_provider.items()
    return ", ".join(f"{number} nodes on {name.removesuffix('ExecutionProvider')}" for name, number in nodes)


def describe_kernels(record: Record) -> str:
    """Whose kernels ran, in which precision and mode, and how many of each; the precision asked for if none ran."""
    ran = execution_of(record)
    parts = [
        ran.library,
        describe_precision(record),
        ran.mode,
        *count_float_layers(record),
        f"{len(ran.sparse_layers)} sparse layers" if ran.sparse_layers else "",
        "" if record.profile else tally(ran.kernels),
        f"multiplies in {tally(ran.multiplying)}" if ran.multiplying else "",
    ]
    return ", ".join(part for part in parts if part)


def describe_precision(record: Record) -> str:
    """The type that multiplied where the session or the compiler says it, else the one that was asked for."""
    asked = record.precision
    delivered = execution_of(record).precision or (asked.delivered if asked else "")
    if delivered or asked is None:
        return delivered
    return f"{asked.asked} asked for"


def count_float_layers(record: Record) -> list[str]:
    """How many layers of a quantized file stayed in float: on purpose, and not on purpose."""
    asked = record.precision
    if asked is None:
        return []
    counts = ((len(asked.keep_float), "kept float"), (len(asked.stayed_float), "stayed float"))
    return [f"{number} layer{'' if number == 1 else 's'} {how}" for number, how in counts if number]


def describe_layout(record: Record) -> str:
    """How images lie in memory, and the operators that only move numbers, with their share of the time."""
    stated = execution_of(record).layout.replace("_", " ")
    moved = describe_share(record, LAYOUT) or ("no transposes seen" if count_operators(record) else "")
    return ", ".join(part for part in (stated, moved) if part)


def describe_conversions(record: Record) -> str:
    """The operators that only turn number types, and the tensors converted before the clock started."""
    outside = execution_of(record).converted_outside
    before = f"before the clock starts: {', '.join(outside)}" if outside else ""
    return "; ".join(part for part in (describe_share(record, NUMBERS), before) if part)


def describe_time(record: Record) -> str:
    """The operators that took most of the profiled time, with how many of them there are."""
    times, number = sum_profile(record)
    total = sum(times.values())
    if total <= 0:
        return ""
    return ", ".join(
        f"{name} ×{number[name]}: {percent_of(time, total)}" for name, time in times.most_common(TOP) if time > 0
    )


DESCRIPTIONS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("partitions", describe_partitions),
    ("kernels", describe_kernels),
    ("layout", describe_layout),
    ("number types", describe_conversions),
    ("time", describe_time),
)


def describe_share(record: Record, kind: re.Pattern[str]) -> str:
    """Operators of a kind among those that ran: how many, and their share of the profiled time if there is one."""
    found = {name: number for name, number in count_operators(record).items() if kind.search(name)}
    if not found:
        return ""
    times, _ = sum_profile(record)
    total = sum(times.values())
    share = f" ({percent_of(sum(times[name] for name in found), total)} of the time)" if total > 0 else ""
    return f"{tally(found)}{share}"


def count_operators(record: Record) -> Mapping[str, int]:
    """Operator -> how many ran: by the profile, else by the kernels that the session counted."""
    return sum_profile(record)[1] or execution_of(record).kernels


def sum_profile(record: Record) -> tuple[Counter[str], Counter[str]]:
    """Operator -> profiled microseconds, and operator -> number of nodes."""
    times: Counter[str] = Counter()
    for layer in record.profile:
        times[layer.operator] += layer.mean_us  # type: ignore[assignment]
    return times, Counter(layer.operator for layer in record.profile)


def tally(found: Mapping[str, int]) -> str:
    """Conv ×9, Gemm ×1."""
    return ", ".join(f"{name} ×{number}" for name, number in found.items())
