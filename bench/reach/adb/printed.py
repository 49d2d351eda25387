"""What LiteRT's `benchmark_model` prints -> figures. A phone is not trusted: every figure is checked.

Formats: `tflite/tools/benchmark/benchmark_model.cc` and the statistics of `tsl/util/stats_calculator.h`. Times are whole
microseconds. It keeps no samples.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bench.errors import CellFailed, Unsupported
from bench.records import TimeSummary

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
COUNT = re.compile(r"\bcount=[0-9]+ .*$", re.MULTILINE)
FIGURE = re.compile(rf"\b(count|first|curr|min|max|avg|std|median)=({NUMBER})\b")
TIMINGS = re.compile(rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER})")
MEMORY = re.compile(rf"Memory footprint delta from the start of the tool \(MB\): init=({NUMBER}) overall=({NUMBER})")
UNKNOWN_OPERATOR = re.compile(
    r"^.*(?:unresolved custom op|Didn't find op for builtin|Op builtin_code out of range).*$", re.MULTILINE
)
XNNPACK = re.compile(r"XNNPACK delegate")
TAKEN = re.compile(r"Explicitly applied XNNPACK delegate, and the model graph will be (completely|partially) executed")
PARTITIONS = re.compile(r"partially executed by the delegate w/ ([0-9]{1,6}) delegate kernels")
REFUSED = re.compile(r"Though XNNPACK delegate is explicitly applied, the model graph will not be executed")
MIB = 1 << 20
US = 1000.0
ROUNDING = 1e-5
"""It prints six digits of a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Of one process: times in ns. `loaded_bytes`, `peak_bytes`: how far its resident memory had grown since its
    start, at most, when the model was loaded and at the end; None where it prints neither. `delegated`: how much of the
    file XNNPACK took, "completely", "partially" or "not"; "" where it does not say."""

    summary: TimeSummary
    warmup: int
    load_ns: float
    first_ns: float
    loaded_bytes: int | None
    peak_bytes: int | None
    library: str
    partitions: int | None
    delegated: str


def read_printed(text: str) -> Printed:
    """The figures of a process that ended well. Raises `CellFailed` for anything that `benchmark_model` does not print."""
    counts = [_read_count(line) for line in COUNT.findall(text)]
    timings = TIMINGS.search(text)
    if len(counts) != 2 or timings is None:
        raise CellFailed(f"benchmark_model printed no timings but: {_tail(text)}")
    warmup, timed = counts
    memory = MEMORY.search(text)
    partitions, taken, refused = (pattern.search(text) for pattern in (PARTITIONS, TAKEN, REFUSED))
    grown = [_positive(float(value)) for value in memory.groups()] if memory else []
    return Printed(
        summary=_summarize(timed),
        warmup=int(warmup["count"]),
        load_ns=_positive(float(timings[1])) * US,
        first_ns=_positive(float(timings[2])) * US,
        loaded_bytes=round(grown[0] * MIB) if grown else None,
        peak_bytes=round(max(grown) * MIB) if grown else None,
        library="XNNPACK" if XNNPACK.search(text) and not refused else "",
        partitions=int(partitions[1]) if partitions else None,
        delegated="not" if refused else taken[1] if taken else "",
    )


def explain_failure(code: int, text: str, model: str) -> CellFailed | Unsupported:
    """Why a process that ended with another exit code than 0 did."""
    if found := UNKNOWN_OPERATOR.search(text):
        return Unsupported(f"{model}: this benchmark_model does not know an operator: {found[0].strip()[-200:]}")
    return CellFailed(f"benchmark_model ended with exit code {code}: {_tail(text)}")


def _read_count(line: str) -> dict[str, float]:
    """One line of statistics. Where all runs took equally long it says only how long."""
    found = {name: float(value) for name, value in FIGURE.findall(line)}
    same = found.get("count") == 1 or "(all same)" in line
    if same and "curr" in found and "avg" not in found:
        found |= dict.fromkeys(("first", "min", "max", "avg", "median"), found["curr"]) | {"std": 0.0}
    return found


def _summarize(found: dict[str, float]) -> TimeSummary:
    lacking = {"count", "min", "max", "avg", "std"} - set(found)
    median = found.get("median", found.get("avg", 0.0))
    if lacking or not all(map(math.isfinite, found.values())):
        raise CellFailed(f"benchmark_model printed a summary without {', '.join(sorted(lacking)) or 'a finite number'}")
    low, high = found["min"] * (1 - ROUNDING), found["max"] * (1 + ROUNDING)
    if found["count"] < 1 or not 0 <= low <= min(found["avg"], median) <= max(found["avg"], median) <= high:
        raise CellFailed(f"benchmark_model printed a summary that contradicts itself: {found}")
    if not min(found["avg"], median) > 0:
        raise CellFailed("benchmark_model counts whole microseconds, and half of the inferences take less than one")
    return TimeSummary(
        count=int(found["count"]),
        mean_ns=found["avg"] * US,
        std_ns=found["std"] * US,
        least_ns=found["min"] * US,
        most_ns=found["max"] * US,
        median_ns=found["median"] * US if "median" in found else None,
        unit_ns=US,
    )


def _positive(value: float) -> float:
    if not 0 <= value < math.inf:
        raise CellFailed(f"benchmark_model printed {value} where a size or a time stands")
    return value


def _tail(text: str) -> str:
    """The last words, errors first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    said = "; ".join(errors[-3:] or lines[-3:])
    return "".join(char if char.isprintable() else "?" for char in said)[-300:] or "nothing"
