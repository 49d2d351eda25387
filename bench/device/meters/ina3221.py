"""Jetson boards: the INA3221 power monitors, volts times amperes of each rail.

Paths: Linux `Documentation/hwmon/ina3221.rst` (`in1_input` in mV, `curr1_input` in mA, `in1_label` with the rail's
name), bound by the driver `ina3221` on JetPack 5 and 6, `ina3221x` before (`in_voltage0_input` in mV,
`in_current0_input` in mA, `rail_name_0`). Rails: NVIDIA's Jetson Linux Developer Guide, "Power Monitor".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Condition
from bench.device.meters.files import read_number, read_or, refused
from bench.device.meters.sampling import SampledMeter
from bench.errors import Unavailable
from bench.types import Json, Scalar

TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that feed the whole module: where one is there, it counts by itself."""
FED_BY_ANOTHER = ("VDDQ_VDD2_1V8AO",)
"""Rails of AGX Orin that VIN_SYS_5V0 feeds: counted with it already."""
UNUSED = ("NC", "")
CHANNELS = 3
PERIOD_S = 0.025
REMEDY = (
    'a udev rule lets your user read it: SUBSYSTEM=="hwmon", RUN+="/bin/sh -c \'chmod a+r /sys%p/*_input\'" '
    "in /etc/udev/rules.d/99-ina3221.rules, then restart"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One channel: its name, its files in mV and mA."""

    name: str
    volts: Path
    amperes: Path

    def watts(self) -> float:
        """The power now. Raises `OSError` or `ValueError`."""
        return read_number(self.volts) * read_number(self.amperes) / 1e6


@final
class Ina3221(SampledMeter):
    """The rail of the whole module, or the sum of the rails that no other rail feeds; `rails` names others."""

    name: ClassVar[str] = "ina3221"
    source: ClassVar[str] = "measured:ina3221"
    covers: ClassVar[str] = "Jetson: the whole module (VDD_IN), or its rails; not the carrier board"
    min_window_s: ClassVar[float] = 1.0
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"rails": ()}
    tick_s: float = PERIOD_S

    def __init__(self, rails: tuple[Rail, ...], others: tuple[str, ...]) -> None:
        self._rails, self._others = rails, others
        super().__init__(partial(_sum, rails), PERIOD_S)

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Ina3221:
        """`rails`: names joined by commas. Raises `Unavailable` without a readable monitor, or for an unknown rail."""
        found = list(find_rails(root))
        if not found:
            raise Unavailable(
                f"no INA3221 rail under {root / 'sys/bus/i2c/drivers'}/ina3221: Jetson boards have one; "
                "on other boards try the meter hwmon"
            )
        chosen = choose_rails(tuple(found), str(options.get("rails") or ""))
        _sum(chosen)
        return cls(chosen, tuple(rail.name for rail in found if rail not in chosen))

    def condition(self) -> Condition:
        """Which rails are counted, the power of each now, and which are not counted."""
        try:
            watts: Json = {rail.name: _sum((rail,)) for rail in self._rails}
        except Unavailable as error:
            watts = f"missing: {error}"
        return Condition(notes={"rails_w": watts, "rails_left_out": list(self._others)})


def find_rails(root: Path) -> Iterator[Rail]:
    """The rails of every monitor, each once; channels without a name or a connection are left out."""
    drivers = root / "sys/bus/i2c/drivers"
    folders = [*drivers.glob("ina3221*/*/hwmon/hwmon*"), *drivers.glob("ina3221*/*/iio:device*")]
    by_name = [path.parent for path in (root / "sys/class/hwmon").glob("*/name") if read_or(path, "") == "ina3221"]
    for folder in sorted({path.resolve() for path in (*folders, *by_name)}):
        for channel in range(CHANNELS):
            rail = _find_rail(folder, channel)
            if rail.name not in UNUSED and rail.volts.exists() and rail.amperes.exists():
                yield rail


def _find_rail(folder: Path, channel: int) -> Rail:
    if folder.name.startswith("iio"):
        return Rail(
            name=read_or(folder / f"rail_name_{channel}", ""),
            volts=folder / f"in_voltage{channel}_input",
            amperes=folder / f"in_current{channel}_input",
        )
    number = channel + 1
    return Rail(
        name=read_or(folder / f"in{number}_label", ""),
        volts=folder / f"in{number}_input",
        amperes=folder / f"curr{number}_input",
    )


def choose_rails(found: tuple[Rail, ...], asked: str) -> tuple[Rail, ...]:
    """The rails to sum. Raises `Unavailable` for an asked one that is not there."""
    names = [name.strip() for name in asked.split(",") if name.strip()]
    known = {rail.name: rail for rail in found}
    missing = [name for name in names if name not in known]
    if missing:
        raise Unavailable(f"no rail {', '.join(missing)} (rails here: {', '.join(known)}): set the option rails")
    if names:
        return tuple(known[name] for name in dict.fromkeys(names))
    totals = tuple(rail for rail in found if rail.name in TOTALS)
    return totals[:1] or tuple(rail for rail in found if rail.name not in FED_BY_ANOTHER)


def _sum(rails: tuple[Rail, ...]) -> float:
    try:
        return sum(rail.watts() for rail in rails)
    except (OSError, ValueError) as error:
        raise refused("the INA3221", error, REMEDY) from error
