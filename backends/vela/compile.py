"""Ethos-U by estimate: the int8 file that the NPU's compiler takes, and what that compiler predicts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, final

from backends.tflite.convert import ACCEPTS, COMPILERS, to_tflite
from backends.vela.estimate import Estimate, read_estimate
from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Probe, Scalar, Simulation

INSTALL = "pip install 'pressbench[vela]'"
LIMIT_S = 600.0
DEFAULTS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
}
"""System configuration and memory mode of Arm/vela.ini that each family is estimated with unless the options name others."""


@final
class VelaBackend(Backend):
    """Cycles, time, SRAM and flash of an int8 network on an Ethos-U, without the device.

    `accelerator`: family and MACs per cycle. `system_config` and `memory_mode`: sections of
    Arm/vela.ini, "" for the family's usual ones. `sram_kib`: SRAM the NPU has, 0 for the memory mode's own.
    """

    name: ClassVar[str] = "vela"
    accepts: ClassVar[tuple[str, ...]] = ACCEPTS
    session: ClassVar[str | None] = None
    width_steps: ClassVar[Mapping[str, int]] = {"": 16}
    compilers: ClassVar[tuple[str, ...]] = COMPILERS
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "accelerator": (
            "ethos-u55-128",
            "ethos-u55-32",
            "ethos-u55-64",
            "ethos-u55-256",
            "ethos-u65-256",
            "ethos-u65-512",
        ),
        "system_config": (),
        "memory_mode": (),
        "sram_kib": (),
    }

    def probe(self) -> Probe:
        """Whether Vela is installed."""
        try:
            return Probe(available=True, version=version("ethos-u-vela"))
        except PackageNotFoundError:
            return Probe(available=False, reason="ethos-u-vela is not installed", remedy=INSTALL)

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out`/model.tflite with integer inputs and outputs. Raises `Unsupported` for a float or dynamic
        network: an Ethos-U computes integers only; `InvalidInput` unless `sram_kib` is a number.
        """
        _read_sram(options)  # the others are for the estimate
        kind = source.quant.kind if source.quant else None
        if source.quant is not None and kind != "static":
            raise Unsupported(f"an Ethos-U runs static int8 only: a {kind} network would stay on the CPU entirely")
        if source.quant is None and "tflite" not in source.files:
            raise Unsupported("an Ethos-U runs static int8 only: a float network would stay on the CPU entirely")
        if source.quant is not None and source.quant.keep_float:
            raise Unsupported(f"layers kept float would stay on the CPU: {', '.join(source.quant.keep_float)}")
        if conditions.batch != 1:
            raise Unsupported(f"Vela estimates batch 1 only, batch {conditions.batch} was asked")
        artifact = to_tflite(source, 1, out, float_io=False)
        floats = [tensor["name"] for tensor in artifact.facts["inputs"] if tensor["dtype"].startswith("float")]
        if floats:
            raise Unsupported(f"an Ethos-U runs int8 only: input {floats[0]!r} of this file is float")
        return artifact

    def simulate(self, artifact: Artifact, conditions: Conditions, options: Mapping[str, Scalar]) -> Simulation:
        """Vela's estimate. Time and cycles are those of the NPU; with operators on the CPU the whole is not known.

        Raises `Unsupported` for a network that needs more SRAM than the memory mode has, `InvalidInput`
        for options that Vela refuses.
        """
        del conditions
        if not self.probe().available:
            raise Unavailable(f"ethos-u-vela is not installed: {INSTALL}")
        accelerator = self._accelerator(options)
        with tempfile.TemporaryDirectory(prefix="pressbench-vela-") as folder:
            _run(artifact.path, accelerator, options, Path(folder))
            return _make_simulation(read_estimate(Path(folder), artifact.path.stem), accelerator)

    def _accelerator(self, options: Mapping[str, Scalar]) -> str:
        return str(options.get("accelerator", self.options["accelerator"][0]))


def _run(model: Path, accelerator: str, options: Mapping[str, Scalar], folder: Path) -> None:
    system, memory = DEFAULTS[accelerator[: len("ethos-u55")]]
    command = [
        *(sys.executable, "-m", "ethosu.vela", str(model)),
        *("--accelerator-config", accelerator),
        *("--config", "Arm/vela.ini"),
        *("--system-config", str(options.get("system_config") or system)),
        *("--memory-mode", str(options.get("memory_mode") or memory)),
        *("--output-dir", str(folder)),
        "--verbose-performance",
    ]
    if sram := _read_sram(options):
        command += ["--arena-cache-size", str(sram)]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CellFailed(f"Vela did not end within {LIMIT_S:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        line = said[0][:400] if said else "and said nothing"
        if "CliOptionError" in line or "ConfigOptionError" in line:
            raise InvalidInput(f"Vela refuses its options: {line.partition(': ')[2]}")
        raise CellFailed(f"Vela ended with exit code {done.returncode}: {line}")


def _read_sram(options: Mapping[str, Scalar]) -> int:
    """SRAM in bytes, 0 for the memory mode's own. Raises `InvalidInput` for anything but a number of KiB."""
    kib = options.get("sram_kib", 0)
    if isinstance(kib, bool) or not isinstance(kib, int) or kib < 0:
        raise InvalidInput(
            f"option sram_kib is {kib!r}; it is a whole number of KiB, 0 for as much as the memory mode has"
        )
    return kib * 1024


def _make_simulation(found: Estimate, accelerator: str) -> Simulation:
    if found.sram_bytes > found.sram_limit_bytes:
        raise Unsupported(
            f"the network needs {found.sram_bytes / 1024:.0f} KiB of SRAM, "
            f"{found.memory_mode} of {accelerator} has {found.sram_limit_bytes / 1024:.0f} KiB"
        )
    if not found.npu_operators:
        raise Unsupported(f"{accelerator} can run no operator of this network: all fall to the CPU")
    notes: dict[str, Any] = {
        "system_config": found.system_config,
        "memory_mode": found.memory_mode,
        "clock_hz": found.clock_hz,
        "flash_bytes": found.flash_bytes,
        "dram_bytes": found.dram_bytes,
        "macs": found.macs,
        "cpu_operators": list(found.cpu_operators),
        "npu_latency_ms": found.latency_ms,
        "npu_cycles": found.cycles,
    }
    if found.cpu_operators:
        names = ", ".join(found.cpu_operators)
        reason = f"{names}: on the CPU, whose time Vela does not estimate"
        notes["missing"] = {"latency_p50_ms": reason, "cycles": reason}
    return Simulation(
        source=f"Vela {version('ethos-u-vela')}, {accelerator}",
        latency_ms=None if found.cpu_operators else found.latency_ms,
        cycles=None if found.cpu_operators else found.cycles,
        memory_bytes=found.sram_bytes,
        layers=found.layers,
        notes=notes,
    )
