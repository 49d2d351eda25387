"""Reads ONNX Runtime's profiler: which kernels ran, in which precision, and for how long.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.onnx_tools.operators import INTEGER, MULTIPLYING
from bench.device.precision import judge_kernels
from bench.records import LayerTime
from bench.types import Precision

Event = Mapping[str, Any]
SUFFIX = "_kernel_time"


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


def count_kernels(events: Sequence[Event]) -> dict[str, int]:
    """Operator -> how many kernels of it ran."""
    return dict(sorted(Counter(_operator(event) for event in node_events(events)).items()))


def count_multiplying(events: Sequence[Event]) -> dict[str, int]:
    """Type -> how many nodes multiplied in it: "int8", "float16", "float32" or "float64".

    A node in the body of a Loop runs many times and counts once.
    """
    return dict(sorted(Counter(_find_multiplying(events).values()).items()))


def _find_multiplying(events: Sequence[Event]) -> dict[str, str]:
    """Name of each node that multiplied -> the type it multiplied in."""
    found = {event["name"].removesuffix(SUFFIX): _multiplies_in(event) for event in node_events(events)}
    return {name: kind for name, kind in found.items() if kind}


def find_fallbacks(events: Sequence[Event], precision: Precision) -> list[str]:
    """What multiplied in another precision than the file asks for: `bench.device.precision.judge_kernels`."""
    return judge_kernels(list(_find_multiplying(events).items()), precision)


def _operator(event: Event) -> str:
    return str(event["args"].get("op_name", ""))


def _multiplies_in(event: Event) -> str:
    """The type a kernel multiplies in; "" for one that does not multiply."""
    operator = _operator(event)
    if operator in INTEGER:
        return "int8"
    if operator not in MULTIPLYING:
        return ""
    types = json.dumps(event["args"].get("input_type_shape", ""))
    return "float16" if "float16" in types else "float64" if "double" in types else "float32"
