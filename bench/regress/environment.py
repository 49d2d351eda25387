"""What a figure was measured in, apart from the model: facts whose change is a cause of its own."""

from __future__ import annotations

from collections.abc import Mapping

from bench.records import Record, Run
from bench.types import Json

FACTS = ("cpu", "kernel", "governor", "python", "driver", "cores", "memory_bytes")
"""Facts about its machine that a worker reports and that may move a latency."""


def read_environment(run: Run, record: Record) -> dict[str, str]:
    """Fact -> value in words, without those that the record does not say."""
    machine = record.facts.get("machine")
    told: Mapping[str, Json] = machine if isinstance(machine, Mapping) else {}
    reported = next((launch.facts for launch in record.launches if launch.facts), told)
    found = {name: reported.get(name, told.get(name)) for name in FACTS}
    found |= {
        f"runtime of {record.backend}": record.backend_version,
        "kernels": record.execution.library if record.execution else "",
        "governors": read_governors(record),
        "pressbench": f"{run.version} {run.revision}".strip(),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def read_governors(record: Record) -> str:
    """The governors of the clocks, where the launches watched them."""
    named = {name for launch in record.launches for climate in launch.climate for name in climate.governors}
    return ", ".join(sorted(named))


def compare_environments(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Each fact that both know and that differs, as "kernel 6.1 -> 6.2"."""
    shared = [name for name in before if name in after and before[name] != after[name]]
    return [f"{name} {before[name]} -> {after[name]}" for name in shared]
