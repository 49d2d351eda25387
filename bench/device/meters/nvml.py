"""NVIDIA GPUs: the energy counter of NVML, and all it says against believing a window.

NVML API reference, device queries. Reads only; nothing on the GPU is ever set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from typing import Any, ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Condition, Meter, Reading
from bench.errors import Unavailable
from bench.types import Json, Scalar

SLOWED_BY = {  # nvmlClocksEventReason*: bits that mean slower than the GPU could be
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability",
}
ASIDE = {0x001: "idle", 0x002: "clocks set by the user"}
POLICIES = {0: "power", 1: "thermal", 2: "sync boost", 3: "board limit", 5: "reliability"}  # nvmlPerfPolicyType_t
SLOWED_SHARE = 0.01
"""A window is distrusted when its clocks were held back for more than this share of its time."""
WINDOW_S = 2.0
TICK_S = 0.3
POLL_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Nanoseconds each policy has held the clocks back, and when that was read."""

    by_policy: Mapping[str, int]
    at_ns: int


@final
class Nvml(Meter):
    """The GPU this process uses. The counter steps about every 100 ms: both ends of a window wait for a step."""

    name: ClassVar[str] = "nvml"
    source: ClassVar[str] = "measured:nvml"
    covers: ClassVar[str] = "the whole GPU board: chip, memory, regulators; not the host"
    min_window_s: ClassVar[float] = WINDOW_S
    step_j: float = 1e-3
    tick_s: float = POLL_S

    def __init__(self, nvml: Any, device: Any, root: Path) -> None:
        self._nvml, self._device, self._root = nvml, device, root
        self._held = self._held_back()
        self._same = {
            "gpu": self._asked(lambda: nvml.nvmlDeviceGetName(device)),
            "driver": self._asked(nvml.nvmlSystemGetDriverVersion),
            "max_sm_clock_mhz": self._asked(lambda: nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_SM)),
        }

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Nvml:
        """Raises `Unavailable` without a driver, without the counter, under MIG, or when it is unclear which GPU."""
        del options
        try:
            nvml = import_module("pynvml")
        except ImportError as error:
            raise Unavailable("nvidia-ml-py is not installed: pip install nvidia-ml-py") from error
        try:
            nvml.nvmlInit()
            device = _device(nvml, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
            _refuse_mig(nvml, device)
            nvml.nvmlDeviceGetTotalEnergyConsumption(device)
        except nvml.NVMLError_NotSupported as error:
            raise Unavailable("this GPU has no total-energy counter (NVML: Volta or later has one)") from error
        except nvml.NVMLError as error:
            raise Unavailable(
                f"NVML does not answer ({error}): it needs an NVIDIA GPU and its driver; nvidia-smi must work"
            ) from error
        return cls(nvml, device, root)

    def read(self) -> Reading:
        """The counter just after a step, or after 0.3 s without one."""
        begun, first = perf_counter_ns(), self._millijoules()
        now = first
        while now == first and perf_counter_ns() - begun < TICK_S * 1e9:
            time.sleep(POLL_S)
            now = self._millijoules()
        return Reading(joules=now / 1e3, at_ns=perf_counter_ns())

    def condition(self) -> Condition:
        """Clocks, temperature and power now; what slowed the GPU since the last look; who else uses it.

        Never raises: what NVML does not answer is a note.
        """
        nvml, device = self._nvml, self._device
        reasons = self._asked(self._reasons)
        bits = reasons if isinstance(reasons, int) else 0
        held = self._held_back()
        others, process_notes = self._processes()
        notes: dict[str, Json] = {
            **self._same,
            "sm_clock_mhz": self._asked(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": self._asked(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
            "temperature_c": self._asked(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
            "power_limit_w": self._asked(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1e3),
            "clock_event_reasons": _texts(bits) if isinstance(reasons, int) else reasons,
            "held_back_ms": {policy: spent / 1e6 for policy, spent in _held_since(self._held, held).items()},
            **process_notes,
        }
        distrust = [*_slowed_by(bits), *_held_too_long(self._held, held)]
        if not isinstance(reasons, int) and not held.by_policy:
            distrust.append(f"NVML does not say why this GPU's clocks are low, nor for how long: {reasons}")
        self._held = held
        return Condition(distrust=(*distrust, *others), notes=notes)

    def slowed(self) -> tuple[str, ...]:
        """The clock event reasons now. Without counted policies they are the only evidence about a window's middle."""
        reasons = self._asked(self._reasons)
        return tuple(_slowed_by(reasons)) if isinstance(reasons, int) else ()

    def _millijoules(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device))

    def _asked(self, question: Callable[[], Json]) -> Json:
        """The answer, or why there is none, in words."""
        try:
            return question()
        except self._nvml.NVMLError as error:
            return f"missing: {error}"

    def _reasons(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._device))
        except nvml.NVMLError_FunctionNotFound:  # drivers before 535 know the old name
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._device))

    def _held_back(self) -> _Held:
        by_policy: dict[str, int] = {}
        for number, policy in POLICIES.items():
            try:
                status = self._nvml.nvmlDeviceGetViolationStatus(self._device, number)
            except self._nvml.NVMLError:  # not every GPU counts every policy; the reasons of the moment remain
                continue
            by_policy[policy] = int(status.violationTime)
        return _Held(by_policy=by_policy, at_ns=perf_counter_ns())

    def _processes(self) -> tuple[tuple[str, ...], Mapping[str, Json]]:
        """Others on the GPU, and this process's device memory."""
        nvml = self._nvml
        try:
            running = {
                process.pid: process
                for process in (
                    *nvml.nvmlDeviceGetComputeRunningProcesses(self._device),
                    *nvml.nvmlDeviceGetGraphicsRunningProcesses(self._device),
                )
            }
        except nvml.NVMLError as error:
            return (), {"process_memory_missing": f"NVML lists no processes: {error}"}
        mine = running.pop(os.getpid(), None)
        names = {pid: _command(self._root, pid) for pid in running}
        foreign = sorted(pid for pid, name in names.items() if name is None)
        if mine is None and len(foreign) == 1:  # in a container this process has a number of another namespace
            mine = running.pop(foreign[0])
        if mine is None or mine.usedGpuMemory is None:
            notes: dict[str, Json] = {"process_memory_missing": "NVML does not say which memory is this process's"}
        else:
            notes = {"process_memory_bytes": int(mine.usedGpuMemory)}
        return tuple(f"another process on the GPU: {pid} {names[pid] or '(unseen)'}" for pid in sorted(running)), notes


def _slowed_by(bits: int) -> list[str]:
    return [f"GPU slowed down: {text}" for bit, text in SLOWED_BY.items() if bits & bit]


def _texts(bits: int) -> list[str]:
    return [text for bit, text in {**ASIDE, **SLOWED_BY}.items() if bits & bit]


def _held_since(before: _Held, after: _Held) -> Mapping[str, int]:
    """Nanoseconds each policy has held the clocks back between two looks."""
    return {policy: held_ns - before.by_policy.get(policy, held_ns) for policy, held_ns in after.by_policy.items()}


def _held_too_long(before: _Held, after: _Held) -> list[str]:
    """A share of at least the shortest energy window: of a few milliseconds, a step of the counter would be much."""
    window_ns = max(WINDOW_S * 1e9, after.at_ns - before.at_ns)
    return [
        f"GPU slowed down by its {policy} policy for over {SLOWED_SHARE:.0%} of the window"
        for policy, spent in _held_since(before, after).items()
        if spent / window_ns > SLOWED_SHARE
    ]


def _device(nvml: Any, visible: str) -> Any:
    """The one GPU this process can use: by the UUID or number of CUDA_VISIBLE_DEVICES, or the only one there is."""
    count = nvml.nvmlDeviceGetCount()
    chosen = [part.strip() for part in visible.split(",") if part.strip()]
    if len(chosen) == 1 and chosen[0].startswith("MIG-"):
        raise Unavailable("a MIG slice has no energy counter of its own: measure on a whole GPU")
    if len(chosen) == 1 and chosen[0].startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(chosen[0])
    if count == 1:
        return nvml.nvmlDeviceGetHandleByIndex(0)
    raise Unavailable(
        f"{count} GPUs here and CUDA numbers them in another order than NVML: "
        "set CUDA_VISIBLE_DEVICES to the UUID of one (nvidia-smi -L lists them)"
    )


def _refuse_mig(nvml: Any, device: Any) -> None:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(device)
    except nvml.NVMLError_NotSupported:
        return
    if current:
        raise Unavailable("MIG is on: the energy counter is of the whole GPU and a slice has none of its own")


def _command(root: Path, pid: int) -> str | None:
    """Name of a process, None where /proc does not show it."""
    try:
        return (root / f"proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
