"""Intel and AMD RAPL: the package energy counters the kernel shows under /sys/class/powercap.

Format: Linux `Documentation/power/powercap/powercap.rst`: `energy_uj` counts microjoules and
wraps at `max_energy_range_uj`. A zone's `name` says what it counts: `psys` (the whole platform) is a
zone of its own beside the packages and holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import ClassVar

from bench.device.meters.base import NO_OPTIONS, Condition, Meter, Reading
from bench.device.meters.files import read_number, read_or, refused, unwind
from bench.errors import Unavailable
from bench.types import Scalar

RULE = (
    'a udev rule lets your user read it: SUBSYSTEM=="powercap", RUN+="/bin/chmod a+r /sys%p/energy_uj" '
    "in /etc/udev/rules.d/99-rapl.rules, then restart; until then: sudo chmod a+r "
    "/sys/class/powercap/intel-rapl:*/energy_uj"
)


class Rapl(Meter):
    """The sum of all package zones (`intel-rapl:N` named `package-...`; their subzones are parts and not added)."""

    name: ClassVar[str] = "rapl"
    source: ClassVar[str] = "measured:rapl"
    covers: ClassVar[str] = (
        "CPU packages: cores, caches and memory controller; neither memory nor disk, by a model inside the CPU"
    )
    min_window_s: ClassVar[float] = 0.5
    step_j: float = 61e-6
    tick_s: float = 1e-3

    def __init__(self, zones: dict[Path, int]) -> None:
        self._range_uj = zones
        self._last_uj = {zone: read_number(zone / "energy_uj") for zone in zones}
        self._total_uj = 0

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Rapl:
        """Raises `Unavailable` where there is no readable package counter."""
        del options
        folder = root / "sys/class/powercap"
        zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if zone.name.count(":") == 1 and _package(zone)]
        if not zones:
            raise Unavailable(
                f"no RAPL package counter under {folder}: virtual machines and most ARM boards have none; "
                "on bare metal load the kernel module intel_rapl_msr"
            )
        try:
            return cls({zone: read_number(zone / "max_energy_range_uj") for zone in zones})
        except (OSError, ValueError) as error:
            raise refused("the RAPL counter", error, RULE) from error

    def read(self) -> Reading:
        """Joules since the meter was opened, all packages; a wrapped counter is unwound."""
        for zone, last in self._last_uj.items():
            now = _now(zone)
            self._total_uj += unwind(last, now, self._range_uj[zone], f"the RAPL counter {zone.name}")
            self._last_uj[zone] = now
        return Reading(joules=self._total_uj / 1e6, at_ns=perf_counter_ns())

    def resume(self) -> None:
        """Goes on from where the counters are now."""
        self._last_uj = {zone: _now(zone) for zone in self._range_uj}

    def condition(self) -> Condition:
        """Which packages are counted."""
        return Condition(notes={"zones": [zone.name for zone in self._range_uj]})


def _package(zone: Path) -> bool:
    return read_or(zone / "name", "").startswith("package")


def _now(zone: Path) -> int:
    try:
        return read_number(zone / "energy_uj")
    except (OSError, ValueError) as error:
        raise refused("the RAPL counter", error, RULE) from error
