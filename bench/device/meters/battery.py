"""Phones, tablets and laptops: the fuel gauge of the battery, under /sys/class/power_supply.

Format: Linux `Documentation/ABI/testing/sysfs-class-power`: `power_now` in uW, `current_now` in uA (its sign differs by
driver), `voltage_now` in uV, `status`. It counts the whole device: screen and radio too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Condition
from bench.device.meters.files import read_number, read_or, refused
from bench.device.meters.sampling import SampledMeter
from bench.errors import Unavailable
from bench.types import Scalar

PERIOD_S = 0.25
REFRESH_S = 1.0
"""Fuel gauges renew their figures about once a second."""
REMEDY = "on Android the shell of adb may read it; elsewhere: sudo chmod a+r /sys/class/power_supply/*/*_now"


@final
class Battery(SampledMeter):
    """The power that leaves the battery while it discharges."""

    name: ClassVar[str] = "battery"
    source: ClassVar[str] = "measured:battery"
    covers: ClassVar[str] = "the whole device while it discharges, screen and radio too"
    min_window_s: ClassVar[float] = 10.0
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"supply": ()}
    tick_s: float = REFRESH_S

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(partial(read_discharge, folder), PERIOD_S)

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Battery:
        """`supply`: the folder's name. Raises `Unavailable` without a readable battery, or while it charges."""
        folder = find_battery(root / "sys/class/power_supply", str(options.get("supply") or ""))
        read_discharge(folder)
        return cls(folder)

    def condition(self) -> Condition:
        """Which battery, and its charge."""
        return Condition(
            notes={"supply": self._folder.name, "capacity_percent": read_or(self._folder / "capacity", "")}
        )


def find_battery(folder: Path, asked: str) -> Path:
    """The folder of the asked battery, or of the only one. Raises `Unavailable`."""
    found = {path.parent.name: path.parent for path in sorted(folder.glob("*/type")) if read_or(path, "") == "Battery"}
    if asked in found:
        return found[asked]
    if asked or not found:
        wanted = f"battery {asked!r}" if asked else "battery"
        raise Unavailable(f"no {wanted} under {folder} (batteries here: {', '.join(found) or 'none'})")
    if len(found) > 1:
        raise Unavailable(f"{len(found)} batteries: set the option supply to one of {', '.join(found)}")
    return next(iter(found.values()))


def read_watts(folder: Path) -> float:
    """The power now. Raises `Unavailable`."""
    try:
        if (folder / "power_now").exists():
            return abs(read_number(folder / "power_now")) / 1e6
        return abs(read_number(folder / "current_now")) * read_number(folder / "voltage_now") / 1e12
    except (OSError, ValueError) as error:
        raise refused(f"the fuel gauge of {folder.name}", error, REMEDY) from error


def read_discharge(folder: Path) -> float:
    """The power that leaves the battery now. Raises `Unavailable`, also while it does not discharge."""
    status = read_or(folder / "status", "Unknown")
    if status != "Discharging":
        raise Unavailable(f"{folder.name} is not discharging (status: {status}): unplug the charger")
    return read_watts(folder)
