"""Memory phases of several launches -> what a model takes, over what its runtime took before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.records import Launch


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Medians over launches, in bytes; None where no launch has the phases.

    `model`: what loading left resident. `peak`: the most any later phase grew beyond the imported runtime.
    """

    model: int | None
    peak: int | None


def host_memory(launches: Sequence[Launch]) -> HostMemory:
    """What the columns `memory_model_bytes` and `memory_peak_bytes` say and a memory budget limits."""
    models: list[int] = []
    peaks: list[int] = []
    for launch in launches:
        phases = {phase.name: phase for phase in launch.memory}
        if "loaded" in phases:
            models.append(phases["loaded"].end_bytes - phases["loaded"].start_bytes)
        later = [phase.peak_bytes for phase in launch.memory if phase.name != "imported"]
        if "imported" in phases and later:
            peaks.append(max(later) - phases["imported"].end_bytes)
    return HostMemory(model=int(median(models)) if models else None, peak=int(median(peaks)) if peaks else None)
