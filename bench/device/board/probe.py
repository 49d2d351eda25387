"""What a board has and lacks: `python -m bench.device.board.probe FILE` prints one line of JSON.

FILE is JSON: `root` (of /proc and /sys), `folder` (whose disk counts), `meters` (`module:Class` and options), and `runtimes` (name
of a package -> its distributions and the command that installs it). Standard library only, Python 3.10.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import distributions as found_by_name
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.device import heat
from bench.device.meters.files import read_or
from bench.errors import PressbenchError
from bench.records import Climate
from bench.types import Scalar

UNSHOWN = "the kernel shows none"
BUSY_LOAD = 0.5
"""Load of the last minute above which other work disturbs a measurement."""
SPARE_MEMORY, SPARE_DISK = 256 << 20, 512 << 20
GOVERNOR = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


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
    climate = heat.read_climate(root, "check")
    yield find_governor(climate)
    yield from find_clocks(climate)
    yield from find_temperatures(climate)
    yield find_throttling(climate)
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


def find_governor(climate: Climate) -> Row:
    """The governors of all CPUs; only `performance` keeps their clock."""
    if not climate.governors:
        return Row(kind="governor", name="cpu", lacking=UNSHOWN)
    slow = climate.governors != ("performance",)
    return Row(
        kind="governor",
        name="cpu",
        state=", ".join(climate.governors),
        lacking="clocks may change while it measures" if slow else "",
        remedy=GOVERNOR if slow else "",
    )


def find_clocks(climate: Climate) -> Iterator[Row]:
    """The frequency of each CPU cluster and GPU, and the highest allowed where it is known."""
    for name, mhz in climate.mhz.items():
        limit = f" of {climate.limit_mhz[name]:.0f}" if name in climate.limit_mhz else ""
        yield Row(kind="clock", name=name, state=f"{mhz:.0f}{limit} MHz")
    if not climate.mhz:
        yield Row(kind="clock", name="cpu", lacking=UNSHOWN)


def find_temperatures(climate: Climate) -> Iterator[Row]:
    """Every thermal zone, in degrees Celsius."""
    for name, celsius in climate.celsius.items():
        yield Row(kind="thermal zone", name=name, state=f"{celsius:.1f} °C")
    if not climate.celsius:
        yield Row(kind="thermal zone", name="any", lacking=UNSHOWN)


def find_throttling(climate: Climate) -> Row:
    """What slows the device now, and what slowed it since it booted."""
    since = [f"{name}: {count} since boot" for name, count in climate.counts.items() if count]
    if climate.slowed:
        lacking, remedy = "; ".join(climate.slowed), "better cooling, or a stronger power supply"
    else:
        lacking, remedy = "; ".join(climate.unread), ""
    return Row(kind="throttling", name="now", state=", ".join(since) or "none seen", lacking=lacking, remedy=remedy)


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
    for line in read_or(root / "proc/meminfo", "").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            low = "little memory" if free < SPARE_MEMORY else ""
            top = "ps --sort=-rss -eo rss,comm | head" if low else ""
            return Row(kind="memory", name="ram", state=f"{free >> 20} MiB available", lacking=low, remedy=top)
    return Row(kind="memory", name="ram", lacking=UNSHOWN)


def find_load(root: Path) -> Row:
    """Processes that wanted a CPU in the last minute, on average."""
    text = read_or(root / "proc/loadavg", "").split(" ")[0]
    try:
        busy = float(text) > BUSY_LOAD
    except ValueError:
        return Row(kind="load", name="other work", lacking=UNSHOWN)
    return Row(
        kind="load",
        name="other work",
        state=f"{text} on {os.cpu_count()} CPUs",
        lacking="other programs run" if busy else "",
        remedy="top -b -n 1 | head -20" if busy else "",
    )


def main(arguments: list[str]) -> None:
    """Prints the rows."""
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps([asdict(row) for row in look(asked)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
