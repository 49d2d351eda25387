"""Facts about the host that commands a run: CPU and its flags, memory, load, versions, revision."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from bench.device.machine import cpu_name
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
SIZE_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def machine_facts(root: Path) -> dict[str, Json]:
    """What a reader needs to judge the numbers; `root` is where /proc and /sys are.

    `l2_bytes` and `l3_bytes` are the size of one cache of that level, the largest if they differ; `l2_count` and
    `l3_count` are how many the machine has. A figure that cannot be read is left out.
    """
    flags = cpu_flags(root)
    found: dict[str, Json] = {
        "cpu": cpu_name(root),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        **_cpu_caches(root),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load": list(psutil.getloadavg()),
        "virtual": "hypervisor" in flags,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return {name: value for name, value in found.items() if value is not None}


def describe_difference(facts: Mapping[str, Json], root: Path) -> str:
    """By what this machine is another one than that of `facts`, of `machine_facts`; "" where it may be the same. `root`: as there."""
    here = machine_facts(root)
    telling = [name for name in ("cpu", "threads") if name in facts and name in here and facts[name] != here[name]]
    return "; ".join(f"{name} {facts[name]}, here {here[name]}" for name in telling)


def cpu_flags(root: Path) -> frozenset[str]:
    """Features of the first CPU: "flags" on x86, "Features" on ARM."""
    for line in _text(root / "proc" / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def _cpu_caches(root: Path) -> dict[str, int]:
    """Size of one cache and number of caches of levels 2 and 3. CPUs that share one name the same CPUs beside it."""
    sizes: dict[str, dict[str, int]] = {"2": {}, "3": {}}
    for cache in (root / "sys" / "devices" / "system" / "cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = _text(cache / "level"), _text(cache / "size")
        if level in sizes and size[:-1].isdigit() and size[-1] in SIZE_UNITS:
            sizes[level][_text(cache / "shared_cpu_list")] = int(size[:-1]) * SIZE_UNITS[size[-1]]
    found: dict[str, int] = {}
    for level, by_cpus in sizes.items():
        if by_cpus:
            found |= {f"l{level}_bytes": max(by_cpus.values()), f"l{level}_count": len(by_cpus)}
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def revision(package: Path) -> str:
    """Short hash of the git commit that the source in folder `package` is at, with "+" for uncommitted changes.

    "" if no git checkout tracks the folder: an installed wheel has a version, not a revision.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(package, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
