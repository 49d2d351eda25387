"""Reads ExecuTorch's own trace (ETDump): which kernels ran, in which type, and for how long.

Travels to the device: standard library and executorch, Python 3.10.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.device.precision import judge_kernels
from bench.records import LayerTime
from bench.types import Precision

NATIVE = "native_call_"
"""How the name of an operator's own kernel begins: XNNPACK did not take it."""
PARTITION = "DELEGATE_CALL"
KERNEL = re.compile(r"(?P<kind>[\w ]+) \((?P<types>[^)]*)\)")
MULTIPLYING = frozenset({"Batch Matrix Multiply", "Convolution", "Deconvolution", "Fully Connected"})
"""XNNPACK's operators that multiply."""
HEAVY = frozenset({"addmm", "baddbmm", "bmm", "convolution", "conv_transpose", "linear", "matmul", "mm"})
"""Operators that multiply and that ExecuTorch's portable kernels ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One kernel: `delegated` to XNNPACK or not. `times_us`: of each inference, in order."""

    name: str
    delegated: bool
    times_us: tuple[float, ...]

    @property
    def kind(self) -> str:
        """Its operator."""
        found = KERNEL.match(self.name)
        return found["kind"] if self.delegated and found else self.name.removeprefix(NATIVE).partition(".")[0]

    @property
    def type(self) -> str:
        """What it multiplies in; "" for one that does not."""
        if not self.delegated:
            return "float32" if self.kind in HEAVY else ""
        found = KERNEL.match(self.name)
        if found is None or self.kind not in MULTIPLYING:
            return ""
        types = found["types"].replace(" ", "").split(",")
        if any(kind == "QC8" or kind.startswith(("QS8", "QU8", "QD8", "QDU8", "QP8")) for kind in types):
            return "int8"
        return "float16" if "F16" in types else "float32" if "F32" in types else "unknown"


def read_steps(path: Path) -> tuple[tuple[Step, ...], int]:
    """The kernels of an ETDump file in the order they ran, and how many partitions XNNPACK has."""
    from executorch.devtools import Inspector

    blocks = [block for block in Inspector(etdump_path=str(path)).event_blocks if block.name == "Execute"]
    events = [event for block in blocks for event in block.events if event.perf_data is not None]
    steps = tuple(
        Step(
            name=event.name,
            delegated=bool(event.is_delegated_op),
            times_us=tuple(1e3 * float(value) for value in event.perf_data.raw),
        )
        for event in events
        if event.is_delegated_op or event.name.startswith(NATIVE)
    )
    return steps, sum(event.name == PARTITION for event in events)


def find_fallbacks(steps: Sequence[Step], precision: Precision) -> list[str]:
    """Multiplications that XNNPACK did not take, and those in another type than the file asks for."""
    off = Counter(step.kind for step in steps if not step.delegated and step.type)
    found = [f"{count} {kind} fell off XNNPACK to ExecuTorch's portable kernels" for kind, count in sorted(off.items())]
    multiplying = [(step.name, step.type) for step in steps if step.type]
    if precision.asked == "float32":
        narrow = Counter(kind for _, kind in multiplying if kind != "float32")
        found += [f"asked for float32, {count} multiplying nodes ran {kind}" for kind, count in sorted(narrow.items())]
    return found + judge_kernels(multiplying, precision)


def layer_times(steps: Sequence[Step], runs: int) -> tuple[LayerTime, ...]:
    """Mean time of each kernel over the last `runs` inferences."""
    return tuple(
        LayerTime(
            name=step.name,
            operator=step.kind,
            mean_us=sum(step.times_us[-runs:]) / max(1, len(step.times_us[-runs:])),
            runs=runs,
            placed_on="xnnpack" if step.delegated else "portable",
        )
        for step in steps
    )
