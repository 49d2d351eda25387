"""What a board has and lacks: `python -m bench.device.board.probe FILE` prints one line of JSON.

FILE is JSON: `root` (of /proc and /sys), `folder` (whose disk counts), `meters` (`module:Class` and options), and `runtimes` (name
of a package -> its distributions and the command that installs it). Standard library only, Python 3.10.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import distributions as found_by_name
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.errors import PressbenchError
from bench.types import Scalar

BUSY_LOAD = 0.5
"""Load of the last minute above which other work disturbs a measurement."""
SPARE_MEMORY, SPARE_DISK = 256 << 20, 512 << 20
GOVERNOR = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
THROTTLED = {
    0: "undervoltage now",
    1: "frequency capped now",
    2: "throttled now",
    3: "at its soft limit of temperature now",
    16: "undervoltage since boot",
    17: "frequency capped since boot",
    18: "throttled since boot",
    19: "at its soft limit of temperature since boot",
}
"""Bit -> meaning of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `state`: what is there. `lacking`: what is missing or in the way; `remedy`: one command."""

    kind: str
    name: str
    state: str = ""
    lacking: str = ""
    remedy: str = ""


def look(asked: Mapping[str, Any]) -> Iterator[Row]:
    """Every row, in the order of the table."""
    root = Path(asked["root"])
    for package, (distributions, remedy) in asked["runtimes"].items():
        yield find_runtime(package, distributions, remedy)
    for meter, options in asked["meters"]:
        yield find_meter(meter, options, root)
    yield find_governor(root)
    yield from find_clocks(root)
    yield from find_temperatures(root)
    yield find_throttling(root)
    yield find_disk(Path(asked["folder"]))
    yield find_memory(root)
    yield find_load(root)


def find_runtime(package: str, distributions: Sequence[str], remedy: str) -> Row:
    """A package and its version, without importing it."""
    if find_spec(package) is None:
        return Row(kind="runtime", name=package, lacking="not installed", remedy=remedy)
    found = {known.name: known.version for name in distributions for known in found_by_name(name=name)}
    return Row(kind="runtime", name=package, state=", ".join(f"{name} {number}" for name, number in found.items()))


def find_meter(meter: str, options: Mapping[str, Scalar], root: Path) -> Row:
    """Whether a meter opens."""
    module, _, name = meter.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, PressbenchError) as error:
        return Row(kind="meter", name=name, lacking=str(error))
    try:
        return Row(kind="meter", name=kind.name, state=str(kind.open(root, options).source))
    except (PressbenchError, ImportError) as error:
        return Row(kind="meter", name=kind.name, lacking=str(error))


def find_governor(root: Path) -> Row:
    """The governors of all CPUs; only `performance` keeps their clock."""
    found = sorted({_text(path) for path in _cpufreq(root, "scaling_governor")})
    if not found:
        return Row(kind="governor", name="cpu", lacking="the kernel shows none")
    slow = found != ["performance"]
    return Row(
        kind="governor",
        name="cpu",
        state=", ".join(found),
        lacking="clocks may change while it measures" if slow else "",
        remedy=GOVERNOR if slow else "",
    )


def find_clocks(root: Path) -> Iterator[Row]:
    """Current and highest frequency, in MHz, of each kind of CPU."""
    found: dict[str, list[str]] = {}
    for path in _cpufreq(root, "scaling_cur_freq"):
        now, most = _text(path), _text(path.with_name("scaling_max_freq"))
        if now.isdigit() and most.isdigit():
            found.setdefault(f"{int(now) // 1000} of {int(most) // 1000} MHz", []).append(path.parent.parent.name)
    for clock, cpus in found.items():
        yield Row(kind="clock", name=", ".join(cpus), state=clock)
    if not found:
        yield Row(kind="clock", name="cpu", lacking="the kernel shows none")


def find_temperatures(root: Path) -> Iterator[Row]:
    """Every thermal zone, in degrees Celsius."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=lambda zone: int(zone.name[12:] or 0))
    found = [(_text(zone / "type") or zone.name, _text(zone / "temp")) for zone in zones]
    shown = [(name, int(text)) for name, text in found if text.lstrip("-").isdigit()]
    for name, milli in shown:
        yield Row(kind="thermal zone", name=name, state=f"{milli / 1000:.1f} C")
    if not shown:
        yield Row(kind="thermal zone", name="any", lacking="the kernel shows none")


def find_throttling(root: Path) -> Row:
    """What the firmware of a Raspberry Pi says, else the kernel's counters of an x86 CPU."""
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled") or _ask_firmware()
    if text:
        bits = int(text, 16)
        said = ", ".join(meaning for bit, meaning in THROTTLED.items() if bits >> bit & 1)
        cooler = "better cooling, or a stronger power supply" if bits else ""
        return Row(kind="throttling", name="firmware", state=f"0x{bits:x}", lacking=said, remedy=cooler)
    counts = [
        _text(p) for p in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    if counts:
        total = sum(int(count) for count in counts if count.isdigit())
        return Row(kind="throttling", name="kernel", state=f"{total} times since boot")
    return Row(kind="throttling", name="any", lacking="neither firmware nor kernel says")


def find_disk(folder: Path) -> Row:
    """Free bytes where files are sent."""
    free = shutil.disk_usage(folder).free
    low = free < SPARE_DISK
    return Row(
        kind="disk",
        name=str(folder),
        state=f"{free >> 20} MiB free",
        lacking="little space" if low else "",
        remedy="pressbench targets clean NAME" if low else "",
    )


def find_memory(root: Path) -> Row:
    """What the kernel could give to a new process."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            low = "little memory" if free < SPARE_MEMORY else ""
            top = "ps --sort=-rss -eo rss,comm | head" if low else ""
            return Row(kind="memory", name="ram", state=f"{free >> 20} MiB available", lacking=low, remedy=top)
    return Row(kind="memory", name="ram", lacking="the kernel shows none")


def find_load(root: Path) -> Row:
    """Processes that wanted a CPU in the last minute, on average."""
    text = _text(root / "proc/loadavg").split(" ")[0]
    try:
        busy = float(text) > BUSY_LOAD
    except ValueError:
        return Row(kind="load", name="other work", lacking="the kernel shows none")
    return Row(
        kind="load",
        name="other work",
        state=f"{text} on {os.cpu_count()} CPUs",
        lacking="other programs run" if busy else "",
        remedy="top -b -n 1 | head -20" if busy else "",
    )


def _cpufreq(root: Path, name: str) -> list[Path]:
    found = (root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")
    return sorted(found, key=lambda path: int(path.parent.parent.name[3:]))


def _ask_firmware() -> str:
    """`throttled=0x50000` of vcgencmd, without its name; "" where it is not there or answers something else."""
    program = shutil.which("vcgencmd")
    if program is None:
        return ""
    try:
        asked = [program, "get_throttled"]
        shown = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
        return f"{int(shown.partition('=')[2], 16):x}"
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def main(arguments: list[str]) -> None:
    """Prints the rows."""
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps([asdict(row) for row in look(asked)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
