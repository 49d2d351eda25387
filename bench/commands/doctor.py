"""`pressbench doctor`: whether this machine can measure, and how well."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from bench.commands.meters import meter_state
from bench.device.machine import calm_cpus
from bench.device.memory import Memory
from bench.device.timing import RunQueue
from bench.machine import machine_facts
from bench.plugins import available
from bench.report.text_table import text_table
from bench.types import Json

Answer = tuple[Any, Any]


def doctor(cache: Path) -> Answer:
    """Whether this machine can measure truthfully; each thing it lacks says what that costs."""
    root = Path("/")
    queue, memory = RunQueue(root), Memory(root)
    with memory.phase("doctor"):
        pass
    facts = machine_facts()
    checks = [
        ("run-queue wait", queue.known, "no /proc/thread-self/schedstat: preempted samples cannot be told apart"),
        ("memory peak", not memory.reason, memory.reason),
        ("pinning", len(calm_cpus(root, 1)) == 1, "the process cannot be pinned"),
        ("bare metal", not facts["virtual"], "a virtual machine: neighbours disturb, clocks and energy are hidden"),
        ("idle", os.getloadavg()[0] < 0.5 * (os.cpu_count() or 1), "the machine is busy: expect wide intervals"),
        ("cache writable", _writable(cache), f"{cache} cannot be written: set PRESSBENCH_CACHE"),
        *((f"meter {name}", (probe := meter_state(name)).available, probe.reason) for name in available("meter")),
    ]
    queue.close()
    rows = [(name, "yes" if good else "no", "" if good else why) for name, good, why in checks]
    answer: dict[str, Json] = {"machine": facts, "checks": [{"name": n, "ok": g, "why": w} for n, g, w in checks]}
    return answer, text_table(("check", "", "if not"), rows)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
