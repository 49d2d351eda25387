"""Reads ONNX Runtime's profiler: which kernels ran, in which precision, and for how long.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.ort.loading import some
from bench.records import LayerTime
from bench.types import Scalar

Event = Mapping[str, Any]
SUFFIX = "_kernel_time"
FLOAT_KERNELS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
)
"""Operators that multiply in floating point; quantized ones have names of their own (QLinearConv, QGemm, ...)."""


def read_events(path: Path) -> list[Event]:
    """Events with a duration in the file a profiled session leaves, by time."""
    events: list[Event] = json.loads(path.read_text(encoding="utf-8"))
    return sorted((event for event in events if "dur" in event), key=lambda event: float(event["ts"]))


def node_events(events: Sequence[Event]) -> list[Event]:
    """One event for each kernel that ran."""
    return [event for event in events if event["cat"] == "Node" and event["name"].endswith(SUFFIX)]


def layer_times(events: Sequence[Event], runs: int) -> tuple[LayerTime, ...]:
    """Mean time of each node per inference over the last `runs` runs, in the order they first ran."""
    first_ends = min(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    timed: dict[str, list[Event]] = {}
    for event in node_events(events):
        if event["ts"] >= first_ends:
            timed.setdefault(event["name"].removesuffix(SUFFIX), []).append(event)
    return tuple(
        LayerTime(
            name=name,
            operator=each[0]["args"]["op_name"],
            mean_us=sum(event["dur"] for event in each) / runs,
            runs=runs,
            placed_on=each[0]["args"].get("provider", ""),
        )
        for name, each in timed.items()
    )


def counted(events: Sequence[Event]) -> dict[str, int]:
    """Operator -> kernels of it that ran."""
    return dict(sorted(Counter(event["args"].get("op_name", "") for event in node_events(events)).items()))


def precision_fallbacks(events: Sequence[Event], told: Mapping[str, Scalar]) -> list[str]:
    """What multiplied in another precision than the file asks for, beyond the layers left float on purpose.

    Optimizers rename nodes (`x` becomes `y_nchwc`), so the number decides and the names are a help.
    """
    precision = str(told.get("precision", "float32"))
    meant = set(str(told.get("float_layers", "")).split(",")) - {""}
    ran = [event for event in node_events(events) if event["args"].get("op_name") in FLOAT_KERNELS]
    if precision == "float16":
        ran = [event for event in ran if "float16" not in json.dumps(event["args"].get("input_type_shape", ""))]
    if told.get("keep_float") and len(ran) < len(meant):
        return [f"asked to keep {len(meant)} layers float, {len(meant) - len(ran)} of them ran {precision} kernels"]
    if precision in {"float32", "weight_only"} or len(ran) <= len(meant):
        return []
    names = [event["name"].removesuffix(SUFFIX).removeprefix("InsertedPrecisionFreeCast_") for event in ran]
    unexpected = [name for name in names if name not in meant] or names
    return [
        f"asked for {precision}, {len(ran) - len(meant)} of {len(ran)} multiplying nodes ran float32 kernels: "
        + some(unexpected)
    ]
