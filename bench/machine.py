"""Facts about the host that commands a run: CPU and its flags, memory, load, versions, revision."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import cpuinfo
import psutil

from bench.types import Json

TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "avx512_bf16",
    "asimddp",
    "i8mm",
    "sve",
)
"""CPU features that decide which int8 and bfloat16 kernels a runtime has."""


def machine_facts() -> dict[str, Json]:
    """What a reader needs to judge the numbers. Takes about a second (py-cpuinfo asks the CPU)."""
    cpu = cpuinfo.get_cpu_info()
    flags = set(cpu.get("flags", []))
    return {
        "cpu": cpu.get("brand_raw", platform.processor()),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "l2_bytes": cpu.get("l2_cache_size"),
        "l3_bytes": cpu.get("l3_cache_size"),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load": list(psutil.getloadavg()),
        "virtual": "hypervisor" in flags,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def revision(folder: Path) -> str:
    """Short hash of the git commit `folder` is at, "+" behind it with uncommitted changes; "" outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
