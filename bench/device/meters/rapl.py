"""Intel and AMD RAPL: the package energy counters the kernel shows under /sys/class/powercap.

Format: Linux `Documentation/power/powercap/powercap.rst`: `energy_uj` counts microjoules and
wraps at `max_energy_range_uj`. A zone's `name` says what it counts: `psys` (the whole platform) is a
zone of its own beside the packages and holds them.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns
from typing import ClassVar

from bench.device.meters.base import Condition, Meter, Reading
from bench.errors import Unavailable


class Rapl(Meter):
    """The sum of all package zones (`intel-rapl:N` named `package-...`; their subzones are parts and not added)."""

    name: ClassVar[str] = "rapl"
    source: ClassVar[str] = "measured:rapl"
    min_window_s: ClassVar[float] = 0.5

    def __init__(self, zones: dict[Path, int]) -> None:
        self._range_uj = zones
        self._last_uj = {zone: _microjoules(zone / "energy_uj") for zone in zones}
        self._total_uj = 0

    @classmethod
    def open(cls, root: Path) -> Rapl:
        """Raises `Unavailable` where there is no readable package counter."""
        folder = root / "sys/class/powercap"
        zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if zone.name.count(":") == 1 and _package(zone)]
        if not zones:
            raise Unavailable(
                f"no RAPL package counter under {folder}: virtual machines and most ARM boards have none; "
                "on bare metal load the kernel module intel_rapl_msr"
            )
        try:
            return cls({zone: _microjoules(zone / "max_energy_range_uj") for zone in zones})
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"the RAPL counter cannot be read ({error}): let your user read {folder}/intel-rapl:*/energy_uj"
            ) from error

    def read(self) -> Reading:
        """Joules since the meter was opened, all packages; a wrapped counter is unwound."""
        for zone, last in self._last_uj.items():
            now = _microjoules(zone / "energy_uj")
            grown = now - last
            self._total_uj += grown if grown >= 0 else grown + self._range_uj[zone]
            self._last_uj[zone] = now
        return Reading(joules=self._total_uj / 1e6, at_ns=perf_counter_ns())

    def condition(self) -> Condition:
        """Which packages are counted."""
        return Condition(notes={"zones": [zone.name for zone in self._range_uj]})


def _package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text(encoding="ascii", errors="replace").startswith("package")
    except OSError:
        return False


def _microjoules(path: Path) -> int:
    return int(path.read_text(encoding="ascii").strip())
