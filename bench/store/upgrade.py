"""Stored runs and records of older versions -> those of today. `codec` lists what each version changed.

Version 1 kept what was asked and what ran in free-form `facts`, and each backend used its own keys. All of those
keys are read here and nowhere else. A key that is absent, or of another kind than its backend wrote, says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from bench.records import Execution, Record, Run
from bench.types import Json, Precision, Status


def upgrade_record(record: Record, version: int) -> Record:
    """A record as this version would have stored it."""
    for step in range(version, len(RECORD_STEPS) + 1):
        record = RECORD_STEPS[step](record)
    return record


def upgrade_run(run: Run, version: int) -> Run:
    """A run as this version would have stored it."""
    for step in range(version, len(RUN_STEPS) + 1):
        run = RUN_STEPS[step](run)
    return run


def record_from_1(record: Record) -> Record:
    """Fills `precision` and `execution` from the facts of the compiler and the session, which stay as they are."""
    compiled, session = record.facts.get("compile"), record.facts.get("session")
    return replace(
        record,
        precision=read_precision(compiled) if isinstance(compiled, Mapping) else record.precision,
        execution=read_execution(session) if isinstance(session, Mapping) else record.execution,
    )


def run_from_1(run: Run) -> Run:
    """Drops the revision: it was that of the folder the user stood in, whatever program that held."""
    return replace(run, revision="")


def record_from_2(record: Record) -> Record:
    """Fills `calibration` from the facts. A cell that was calibrated on random inputs is untrusted: version 2 was not."""
    said = read_text(read_mapping(record.facts.get("compress")).get("calibration"))
    if "random inputs" not in said:
        return replace(record, calibration=said)
    believed = record.status in {Status.OK, Status.INCONCLUSIVE}
    return replace(
        record,
        calibration=said,
        status=Status.UNTRUSTED if believed else record.status,
        reasons=(*record.reasons, RANDOM_RANGES),
    )


def run_from_2(run: Run) -> Run:
    """The same: version 3 changed records only."""
    return run


RANDOM_RANGES = "int8 ranges come from random inputs, not from data"
RECORD_STEPS: Mapping[int, Callable[[Record], Record]] = {1: record_from_1, 2: record_from_2}
RUN_STEPS: Mapping[int, Callable[[Run], Run]] = {1: run_from_1, 2: run_from_2}
"""Version -> the step from it to the next."""

LITERT_KERNELS = {"xnnpack": "LiteRT", "any": "LiteRT", "builtin": "LiteRT builtin", "reference": "LiteRT reference"}
"""litert's option `kernels` -> whose kernels ran where XNNPACK took no operator."""


def read_precision(compiled: Mapping[str, Json]) -> Precision:
    """From the facts of a compiler.

    The type asked for: ort wrote it to `session_options.precision`, litert, vela and trt to `session_options.asked`,
    pytorch to `precision`. litert wrote the type delivered to `arithmetic`.
    """
    options, int8 = read_mapping(compiled.get("session_options")), read_mapping(compiled.get("int8"))
    asked = read_text(options.get("precision"), options.get("asked"), compiled.get("precision")) or "float32"
    stayed = read_names(compiled.get("left_float")) or read_names(int8.get("left_float"))
    kept = (
        read_names(compiled.get("kept_float"))
        or read_joined(options.get("float_layers"))
        or tuple(name for name in read_names(int8.get("float_layers")) if name not in stayed)
    )
    return Precision(
        asked=asked,
        delivered=read_text(compiled.get("arithmetic")) or ("float32" if asked == "float32" else ""),
        keep_float=kept,
        stayed_float=stayed,
    )


def read_execution(session: Mapping[str, Json]) -> Execution:
    """From the facts of a session. `kernels` was an option (litert) or counts (ort, pytorch)."""
    return Execution(
        precision=read_text(session.get("precision")),
        library=read_library(session),
        mode=read_text(session.get("mode")),
        device=read_text(session.get("gpu")),
        kernels=read_counts(session.get("kernels")),
        multiplying=count_types(read_mapping(session.get("layers")).get("multiplying")),
        operators=read_counts(session.get("operators")),
        delegated=read_number(session.get("delegated")),
        partitions=read_number(session.get("partitions")),
        not_delegated=read_counts(session.get("not_delegated")),
        nodes_by_provider=read_counts(session.get("nodes_by_provider")),
        layout=read_layout(session),
        sparse_layers=read_names(session.get("sparse_layers")),
        converted_outside=read_names(session.get("integer_tensors_converted_outside_timing")),
    )


def read_library(session: Mapping[str, Json]) -> str:
    """Whose kernels ran: trt listed the layers of an engine, litert named its option and counted partitions."""
    if read_mapping(session.get("layers")):
        return "TensorRT"
    return (
        "XNNPACK"
        if read_number(session.get("partitions"))
        else LITERT_KERNELS.get(read_text(session.get("kernels")), "")
    )


def read_layout(session: Mapping[str, Json]) -> str:
    """The layout that the session chose. litert wrote "model" where it left the file's own."""
    if session.get("channels_last") is True:
        return "channels_last"
    layout = read_text(session.get("layout"))
    return "" if layout == "model" else layout


def count_types(multiplying: Json) -> dict[str, int]:
    """The multiplying layers that trt listed -> type of number -> how many of them take it."""
    layers = multiplying if isinstance(multiplying, (list, tuple)) else ()
    return dict(Counter(read_text(read_mapping(layer).get("takes")) or "unknown" for layer in layers))


def read_mapping(value: Json) -> Mapping[str, Json]:
    """A mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def read_text(*values: Json) -> str:
    """The first that is text and not empty, or ""."""
    return next((value for value in values if isinstance(value, str) and value), "")


def read_number(value: Json) -> int | None:
    """An integer, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_counts(value: Json) -> dict[str, int]:
    """Name -> number, without entries of another kind."""
    numbers = {str(name): read_number(number) for name, number in read_mapping(value).items()}
    return {name: number for name, number in numbers.items() if number is not None}


def read_names(value: Json) -> tuple[str, ...]:
    """The names of a list, or of a mapping from name to reason."""
    return tuple(map(str, value)) if isinstance(value, (list, tuple, Mapping)) else ()


def read_joined(value: Json) -> tuple[str, ...]:
    """The names in a text with commas between."""
    return tuple(name for name in read_text(value).split(",") if name)
