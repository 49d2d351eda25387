"""Facts about the machine a worker runs on, as far as its kernel shows them."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.types import Json


def facts(root: Path) -> dict[str, Json]:
    """CPU model, cores, governor, frequency, load, kernel and Python, as far as they can be read."""
    found: dict[str, Json] = {
        "cpu": cpu_name(root),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "memory_bytes": _memory_total(root),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_khz": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        "load": _text(root / "proc/loadavg"),
    }
    return {key: value for key, value in found.items() if value not in (None, "")}


def cpu_name(root: Path) -> str:
    """What /proc/cpuinfo calls the CPU (ARM kernels give only the part number)."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    board = _text(root / "proc/device-tree/model").rstrip("\0")
    part = f"ARM part {fields['CPU part']}" if "CPU part" in fields else ""
    return fields.get("model name") or board or fields.get("Model") or part or platform.processor()


def steal_ns(root: Path) -> int | None:
    """Time the hypervisor gave to other guests, summed over CPUs since boot (0 on bare metal); None where unknown."""
    times = _cpu_times(root).get("cpu", [])
    return times[7] * _tick_ns() if len(times) > 7 else None


def process_age_ms(root: Path) -> float | None:
    """How long ago this process began, to the kernel's tick (10 ms); None where the kernel does not say.

    Field 22 of /proc/self/stat in ticks since boot, on the clock CLOCK_BOOTTIME (proc(5)).
    """
    fields = _text(root / "proc/self/stat").rpartition(")")[2].split()
    if len(fields) < 20 or sys.platform != "linux":
        return None
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(fields[19]) * _tick_ns()) / 1e6


def pin(root: Path, count: int) -> dict[str, Json]:
    """Keeps this process on the `count` calmest CPUs: a fact that says which, or why it is not."""
    cpus = calm_cpus(root, count)
    if sys.platform != "linux":
        return {"pinning_missing": f"{sys.platform} lets no process choose its CPUs"}
    os.sched_setaffinity(0, cpus)
    return {"pinned_cpus": list(cpus)}


def calm_cpus(root: Path, count: int, watch_s: float = 0.05) -> tuple[int, ...]:
    """The `count` allowed CPUs that were most idle over `watch_s` seconds; () where a process cannot choose."""
    if sys.platform != "linux":
        return ()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) <= count:
        return tuple(allowed)
    before = _cpu_times(root)
    time.sleep(watch_s)
    after = _cpu_times(root)

    def idle(cpu: int) -> int:
        name = f"cpu{cpu}"
        return after[name][3] - before[name][3] if name in after and name in before else 0

    return tuple(sorted(sorted(allowed, key=idle, reverse=True)[:count]))


def _cpu_times(root: Path) -> Mapping[str, list[int]]:
    rows = (line.split() for line in _text(root / "proc/stat").splitlines() if line.startswith("cpu"))
    return {row[0]: [int(value) for value in row[1:]] for row in rows}


def _tick_ns() -> int:
    return 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _memory_total(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
