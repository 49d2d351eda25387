"""What lies where in the folder of the emulated board, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from bench.errors import InvalidInput, Unavailable, unknown
from bench.paths import cache_folder
from bench.types import Json

MADE_FROM = (
    *(f"reach/arm/{name}" for name in ("debian.txt", "wheels.txt", "counter.c", "layout.py", "fetch.py", "setup.py")),
    *("reach/arm/empty.py", "reach/emulated.py", "device/events.py", "device/worker.py"),
)
"""Files of `bench` that decide what the folder contains: what is fetched and built, and the worker whose own part is
counted."""
HOW = "run `make arm`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """What /proc/cpuinfo of such a core says; runtimes choose their kernels by it."""

    part: int
    features: str


BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CPUS: Mapping[str, Cpu] = {
    "cortex-a53": Cpu(part=0xD03, features=BASE),
    "cortex-a72": Cpu(part=0xD08, features=BASE),
    "cortex-a76": Cpu(part=0xD0B, features=f"{BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"),
}
"""Part numbers and features: Arm's Technical Reference Manuals of the cores, MIDR_EL1 and ID registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Paths in the folder."""

    folder: Path

    @property
    def qemu(self) -> Path:
        """The emulator, a program of this machine."""
        return self.folder / "host" / "usr" / "bin" / "qemu-aarch64"

    @property
    def host_libraries(self) -> Path:
        """Libraries the emulator needs."""
        return self.folder / "host" / "usr" / "lib" / "x86_64-linux-gnu"

    @property
    def plugin(self) -> Path:
        """The counting plugin."""
        return self.folder / "counter.so"

    @property
    def wheels(self) -> Path:
        """The aarch64 packages, unpacked."""
        return self.folder / "wheels"

    @property
    def manifest(self) -> Path:
        """What was fetched, with digests; written last."""
        return self.folder / "manifest.json"

    def sysroot(self, device: str) -> Path:
        """The root directory of a board with such a CPU."""
        return self.folder / "sysroot" / device

    def command(self, device: str, marks: Path, packages: Path) -> list[str]:
        """Starts the emulated Python, its counts going to `marks`; arguments follow."""
        root = self.sysroot(device)
        return [
            *(str(self.qemu), "-cpu", device, "-L", str(root), "-U", "LD_LIBRARY_PATH"),
            *("-E", f"PYTHONPATH={packages}{os.pathsep}{self.wheels}"),
            *("-plugin", f"{self.plugin},out={marks}"),
            str(root / "usr" / "bin" / "python3.11"),
        ]

    def environment(self) -> dict[str, str]:
        """Nothing of this machine's environment reaches the emulated worker."""
        return {
            "LD_LIBRARY_PATH": str(self.host_libraries),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }


def default_folder(environment: Mapping[str, str]) -> Path:
    """PRESSBENCH_ARM, else `arm` in the cache."""
    chosen = environment.get("PRESSBENCH_ARM")
    return Path(chosen).expanduser().resolve() if chosen else cache_folder(environment) / "arm"


def recipe_digest() -> str:
    """Of everything that decides what the folder contains: a folder made from something else is not used."""
    digest = hashlib.sha256()
    for name in MADE_FROM:
        digest.update(files("bench").joinpath(name).read_bytes())
    return digest.hexdigest()


def open_board(folder: Path) -> tuple[Board, Mapping[str, Json]]:
    """The board and its manifest. Raises `Unavailable` saying what is missing."""
    board = Board(folder=folder)
    if not board.manifest.exists():
        raise Unavailable(f"there is no emulated ARM board in {folder}: {HOW}")
    try:
        manifest: Mapping[str, Json] = json.loads(board.manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unavailable(f"{board.manifest} does not read ({error}): {HOW}") from error
    if manifest.get("recipe") != recipe_digest():
        raise Unavailable(f"the emulated ARM board in {folder} was made by another version: {HOW}")
    gone = [str(path) for path in (board.qemu, board.plugin, board.wheels / "numpy") if not path.exists()]
    if gone:
        raise Unavailable(f"{gone[0]} is gone: {HOW}")
    return board, manifest


def check_device(device: str) -> str:
    """Raises `InvalidInput` for a CPU that is not emulated."""
    if not device:
        raise InvalidInput(f"the emulated target needs a CPU in `devices`: {', '.join(CPUS)}")
    if device not in CPUS:
        raise unknown("emulated CPU", device, CPUS)
    return device


def cpuinfo(device: str) -> str:
    """/proc/cpuinfo of one core. Without it the runtimes' CPU detection crashes."""
    cpu = CPUS[device]
    return (
        "processor\t: 0\nBogoMIPS\t: 100.00\n"
        f"Features\t: {cpu.features}\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: 0x{cpu.part:03x}\nCPU revision\t: 1\n\n"
    )
