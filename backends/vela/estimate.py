"""Reads what Vela wrote: its summary and its per-layer table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import CellFailed
from bench.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One network on one accelerator. `cycles` and `latency_ms` are the NPU's; memory in bytes.

    `cpu_operators`: kinds of the operators that no NPU operator stands for, in order.
    """

    system_config: str
    memory_mode: str
    clock_hz: float
    latency_ms: float
    cycles: int
    macs: int
    sram_bytes: int
    sram_limit_bytes: int
    flash_bytes: int
    dram_bytes: int
    npu_operators: int
    cpu_operators: tuple[str, ...]
    layers: tuple[Mapping[str, Json], ...]


def read_estimate(folder: Path, stem: str) -> Estimate:
    """Raises `CellFailed` when a file is missing or is not what this version of Vela is known to write."""
    try:
        (summary_file,) = folder.glob(f"{stem}_summary_*.csv")
        (summary,) = _rows(summary_file)
        layers = tuple(_layer(row) for row in _rows(folder / f"{stem}_per-layer.csv"))
        return _estimate(summary, layers)
    except (OSError, ValueError, KeyError) as error:
        raise CellFailed(f"Vela's report does not read: {error}") from error


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _estimate(summary: Mapping[str, str], layers: tuple[Mapping[str, Json], ...]) -> Estimate:
    """Vela counts memory in KiB, time in seconds, clock in Hz."""
    return Estimate(
        system_config=summary["system_config"],
        memory_mode=summary["memory_mode"],
        clock_hz=_read(summary, "core_clock"),
        latency_ms=_read(summary, "inference_time") * 1e3,
        cycles=int(_read(summary, "cycles_total")),
        macs=int(_read(summary, "nn_macs")),
        sram_bytes=round(_read(summary, "sram_memory_used") * 1024),
        sram_limit_bytes=round(_read(summary, "arena_cache_size") * 1024),
        flash_bytes=round(
            (_read(summary, "on_chip_flash_memory_used") + _read(summary, "off_chip_flash_memory_used")) * 1024
        ),
        dram_bytes=round(_read(summary, "dram_memory_used") * 1024),
        npu_operators=sum(layer["target"] == "NPU" for layer in layers),
        cpu_operators=tuple(dict.fromkeys(str(layer["operator"]) for layer in layers if layer["target"] == "CPU")),
        layers=layers,
    )


def _layer(row: Mapping[str, str]) -> Mapping[str, Json]:
    utilization = float(row["Util% (MAC)"] or "")
    return {
        "name": row["Name"],
        "operator": row["Original Operator"],
        "npu_operator": row["NNG Operator"],
        "target": row["Target"],
        "cycles": int(_read(row, "Op Cycles")),
        "macs": int(_read(row, "MAC Count")),
        "mac_utilization_percent": None if math.isnan(utilization) or row["Target"] == "CPU" else utilization,
    }


def _read(row: Mapping[str, str], key: str) -> float:
    """A figure. Raises `ValueError` for what is not a finite number of 0 or more."""
    text = row[key] or ""  # None where the row is cut off
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{key} is {text}")
    return value
