"""`pressbench doctor`: whether this machine can measure, and how well."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Group

from bench.cache import check_writable
from bench.commands.cache import size_text
from bench.commands.meters import meter_state
from bench.device.machine import calm_cpus
from bench.device.memory import Memory
from bench.device.timing import RunQueue
from bench.errors import Unavailable
from bench.machine import machine_facts
from bench.plugins import available
from bench.report.text_table import text_table
from bench.types import Json
from bench.upkeep import survey

Answer = tuple[Any, Any]


def doctor(cache: Path) -> Answer:
    """Whether this machine can measure truthfully; each thing it lacks says what that costs."""
    root = Path("/")
    queue, memory = RunQueue(root), Memory(root)
    with memory.phase("doctor"):
        pass
    facts = machine_facts(root)
    checks = [
        ("run-queue wait", queue.known, "no /proc/thread-self/schedstat: preempted samples cannot be told apart"),
        ("memory peak", not memory.reason, memory.reason),
        ("pinning", len(calm_cpus(root, 1)) == 1, "the process cannot be pinned"),
        ("bare metal", not facts["virtual"], "a virtual machine: neighbours disturb, clocks and energy are hidden"),
        ("idle", os.getloadavg()[0] < 0.5 * (os.cpu_count() or 1), "the machine is busy: expect wide intervals"),
        ("cache writable", not (refused := _why_not_writable(cache)), refused),
        *((f"meter {name}", (probe := meter_state(name)).available, probe.reason) for name in available("meter")),
    ]
    queue.close()
    rows = [(name, "yes" if good else "no", "" if good else why) for name, good, why in checks]
    size = None if refused else sum(item.size for item in survey(cache))
    answer: dict[str, Json] = {
        "machine": facts,
        "checks": [{"name": n, "ok": g, "why": w} for n, g, w in checks],
        "cache": {"folder": str(cache), "bytes": size},
    }
    known = "cannot be read" if size is None else f"{size_text(size)} (`pressbench cache` shows what it holds)"
    return answer, Group(text_table(("check", "", "if not"), rows), f"cache: {cache}: {known}")


def _why_not_writable(cache: Path) -> str:
    try:
        check_writable(cache)
    except Unavailable as error:
        return str(error)
    return ""
