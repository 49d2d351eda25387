"""What a record's facts and profile say really ran, in words: partitions, kernels, layout, where the time went.

Adapters write facts, a device sends them, and no two runtimes know the same: a key that is absent, or of another
kind than it should be, says nothing here. No adapter is known by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.records import Record
from bench.report.text import percent_of
from bench.types import Json

TOP = 3
"""Operators named by their share of the time."""
LAYOUT = re.compile(r"^(transpose|reorderinput|reorderoutput|reformat)\b|nchwtonhwc|nhwctonchw", re.IGNORECASE)
"""Operators that only move numbers: ONNX Runtime's, LiteRT's, TensorRT's and cuDNN's. A TRANSPOSE_CONV is none."""
NUMBERS = re.compile(r"^(quantize|dequantize|quantizelinear|dequantizelinear|convert|cast)\b", re.IGNORECASE)
"""Operators that only turn one type of number into another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One thing that a record says of how it ran."""

    what: str
    text: str


def what_ran(record: Record) -> list[Ran]:
    """All a record says, in the order of `SAYINGS`."""
    return [Ran(what=what, text=text) for what, say in SAYINGS if (text := say(record))]


def partitions(record: Record) -> str:
    """Who took the operators, in how many pieces, and what was left over; or the nodes each provider got."""
    notes = session(record)
    operators, left = counts(notes.get("operators")), counts(notes.get("not_delegated"))
    pieces, taken = notes.get("partitions"), notes.get("delegated")
    if operators and isinstance(pieces, int) and isinstance(taken, int):
        rest = f"; not taken: {tally(left)}" if left else ""
        where = f" in {pieces} partition{'' if pieces == 1 else 's'}" if pieces else ""
        return f"{taken} of {sum(operators.values())} operators delegated{where}{rest}"
    nodes = counts(notes.get("nodes_by_provider"))
    return ", ".join(f"{number} nodes on {name.removesuffix('ExecutionProvider')}" for name, number in nodes.items())


def kernels(record: Record) -> str:
    """Whose kernels; the precision that ran where somebody says, else the one that was asked for; counts of what ran."""
    notes, compiled = session(record), mapping(record.facts.get("compile"))
    options = mapping(compiled.get("session_options"))
    ran = first_words(notes.get("precision"), compiled.get("arithmetic"))
    asked = [] if ran else first_words(options.get("precision"), options.get("asked"))
    library, engine = notes.get("kernels"), mapping(notes.get("layers"))
    parts = [
        *first_words(library),
        *ran,
        *(f"{precision} asked for" for precision in asked),
        *first_words(notes.get("mode")),
        f"{len(kept)} layers kept float" if (kept := listed(compiled.get("kept_float"))) else "",
        f"{len(sparse)} sparse layers" if (sparse := listed(notes.get("sparse_layers"))) else "",
        "" if record.profile else tally(counts(library)),
        f"products take {tally(taken)}" if (taken := takes(engine.get("multiplying"))) else "",
    ]
    return ", ".join(part for part in parts if part)


def takes(multiplying: Json) -> Counter[str]:
    """Type of number -> how many layers of an engine multiply in it."""
    return Counter(str(mapping(layer).get("takes", "")) or "an untold type" for layer in listed(multiplying))


def first_words(*values: Json) -> list[str]:
    """The first that is text and not empty."""
    return [value for value in values if isinstance(value, str) and value][:1]


def layout(record: Record) -> str:
    """How images lie in memory, and the operators that only move numbers, with their share of the time."""
    notes = session(record)
    stated = notes.get("layout")
    lies = stated if isinstance(stated, str) and stated != "model" else ""
    if notes.get("channels_last") is True:
        lies = "channels_last"
    found = spent(record, LAYOUT)
    return ", ".join(
        part for part in (lies.replace("_", " "), found or ("no transposes seen" * bool(seen(record)))) if part
    )


def conversions(record: Record) -> str:
    """The operators that only turn number types, and what was turned before the clock started."""
    outside = listed(session(record).get("integer_tensors_converted_outside_timing"))
    before = f"before the clock starts: {', '.join(map(str, outside))}" if outside else ""
    return "; ".join(part for part in (spent(record, NUMBERS), before) if part)


def slowest(record: Record) -> str:
    """The operators that took most of the profiled time, with how many of them there are."""
    times, number = timed(record)
    total = sum(times.values())
    if total <= 0:
        return ""
    return ", ".join(
        f"{name} ×{number[name]}: {percent_of(time, total)}" for name, time in times.most_common(TOP) if time > 0
    )


SAYINGS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("partitions", partitions),
    ("kernels", kernels),
    ("layout", layout),
    ("number types", conversions),
    ("time", slowest),
)


def spent(record: Record, kind: re.Pattern[str]) -> str:
    """Operators of a kind among those that ran: how many, and their share of the profiled time where there is one."""
    found = {name: number for name, number in seen(record).items() if kind.search(name)}
    if not found:
        return ""
    times, _ = timed(record)
    total = sum(times.values())
    share = f" ({percent_of(sum(times[name] for name in found), total)} of the time)" if total > 0 else ""
    return f"{tally(found)}{share}"


def seen(record: Record) -> Mapping[str, int]:
    """Operator -> how many ran: of the profile, else as the session counted its kernels; empty where nobody looked."""
    return timed(record)[1] or counts(session(record).get("kernels"))


def timed(record: Record) -> tuple[Counter[str], Counter[str]]:
    """Operator -> profiled microseconds, and -> how many nodes."""
    times: Counter[str] = Counter()
    for layer in record.profile:
        times[layer.operator] += layer.mean_us  # type: ignore[assignment]
    return times, Counter(layer.operator for layer in record.profile)


def session(record: Record) -> Mapping[str, Json]:
    """What the session noted."""
    return mapping(record.facts.get("session"))


def mapping(value: Json) -> Mapping[str, Json]:
    """A mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def counts(value: Json) -> dict[str, int]:
    """Name -> number, of what is one."""
    return {str(name): number for name, number in mapping(value).items() if isinstance(number, int)}


def listed(value: Json) -> list[Json]:
    """A list, or an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def tally(found: Mapping[str, int]) -> str:
    """Conv ×9, Gemm ×1."""
    return ", ".join(f"{name} ×{number}" for name, number in found.items())
