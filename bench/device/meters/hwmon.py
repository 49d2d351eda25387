"""Any board: the power and energy inputs that Linux shows under /sys/class/hwmon.

Format: Linux `Documentation/hwmon/sysfs-interface.rst`: `energyN_input` counts microjoules, `powerN_input` and
`powerN_average` are microwatts, `energyN_label` and `powerN_label` name them, `name` is the chip's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Condition, Meter, Reading
from bench.device.meters.files import read_number, read_or, refused, unwind
from bench.device.meters.sampling import Sampler
from bench.errors import Unavailable
from bench.types import Scalar

PERIOD_S = 0.05
RANGE_UJ = (2**32, 2**64)
"""Where a counter wraps: after 32 bits, or after 64."""
REMEDY = (
    'a udev rule lets your user read it: SUBSYSTEM=="hwmon", RUN+="/bin/sh -c \'chmod a+r /sys%p/*_input\'" '
    "in /etc/udev/rules.d/99-hwmon.rules, then restart"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One input: `chip:label`, or `chip:powerN` without a label; its file; whether it counts energy.

    Where several had the same name, the folder or the file in which they differ follows: `chip:label:hwmon2`.
    """

    name: str
    path: Path
    counts: bool


@final
class Hwmon(Meter):
    """One sensor, by the option `sensor`, or the only one there is. Sensors may overlap, so none are summed."""

    name: ClassVar[str] = "hwmon"
    source: ClassVar[str] = "measured:hwmon"
    covers: ClassVar[str] = "the one sensor that the option `sensor` names"
    min_window_s: ClassVar[float] = 1.0
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"sensor": ()}

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._last_uj, self._total_uj = _number(sensor), 0
        self._sampler = None if sensor.counts else Sampler(lambda: _number(sensor) / 1e6, PERIOD_S)
        self.tick_s = 1e-3 if sensor.counts else PERIOD_S
        self.step_j = 1e-6 if sensor.counts else 0.0

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Hwmon:
        """Raises `Unavailable` without a readable sensor, for several without `sensor`, or an unknown one."""
        found = {sensor.name: sensor for sensor in find_sensors(root)}
        if not found:
            raise Unavailable(f"no power or energy input under {root / 'sys/class/hwmon'}: this board shows none")
        asked = str(options.get("sensor") or "")
        if asked and asked not in found:
            raise Unavailable(f"no sensor {asked!r} (sensors here: {', '.join(found)}): set the option sensor")
        if not asked and len(found) > 1:
            raise Unavailable(
                f"{len(found)} sensors that may overlap: name one in the target's file, as "
                f"[meter_options.hwmon] sensor = {next(iter(found))!r} (sensors here: {', '.join(found)})"
            )
        return cls(found[asked] if asked else next(iter(found.values())))

    def read(self) -> Reading:
        """Joules since the meter was opened; of a power input between `resume` and `pause`."""
        if self._sampler:
            return self._sampler.read()
        now = _number(self._sensor)
        self._total_uj += grown(self._last_uj, now, f"the sensor {self._sensor.name}")
        self._last_uj = now
        return Reading(joules=self._total_uj / 1e6, at_ns=perf_counter_ns())

    def resume(self) -> None:
        """Starts sampling a power input. A counter goes on from where it is now."""
        if self._sampler:
            self._sampler.resume()
        else:
            self._last_uj = _number(self._sensor)

    def pause(self) -> None:
        """Stops sampling."""
        if self._sampler:
            self._sampler.pause()

    def condition(self) -> Condition:
        """Which sensor is read."""
        return Condition(notes={"sensor": self._sensor.name, "file": self._sensor.path.name})


def find_sensors(root: Path) -> list[Sensor]:
    """Every energy counter, then every power input of a chip without one; an INA3221 has its own meter.

    No two have the same name.
    """
    sensors: list[Sensor] = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        chip = read_or(folder / "name", folder.name)
        counters = sorted(folder.glob("energy*_input"))
        powers = sorted([*folder.glob("power*_input"), *folder.glob("power*_average")])
        if chip != "ina3221":
            sensors += [_make_sensor(chip, path) for path in counters or powers]
    return _mark_equals(_mark_equals(sensors, lambda path: path.parent.name), lambda path: path.name)


def _mark_equals(sensors: Sequence[Sensor], mark: Callable[[Path], str]) -> list[Sensor]:
    """With the mark of its file behind the name of each sensor that another one has too, where their marks differ."""
    marks: dict[str, set[str]] = {}
    for sensor in sensors:
        marks.setdefault(sensor.name, set()).add(mark(sensor.path))
    return [
        replace(sensor, name=f"{sensor.name}:{mark(sensor.path)}") if len(marks[sensor.name]) > 1 else sensor
        for sensor in sensors
    ]


def _make_sensor(chip: str, path: Path) -> Sensor:
    stem = path.name.split("_")[0]
    return Sensor(
        name=f"{chip}:{read_or(path.with_name(f'{stem}_label'), stem)}", path=path, counts=stem.startswith("energy")
    )


def grown(before_uj: int, now_uj: int, what: str) -> int:
    """What a counter grew by; one that fell has wrapped at the smallest range that holds it. Raises as `unwind`."""
    return unwind(before_uj, now_uj, next(limit for limit in RANGE_UJ if before_uj < limit), what)


def _number(sensor: Sensor) -> int:
    try:
        return read_number(sensor.path)
    except (OSError, ValueError) as error:
        raise refused(f"the sensor {sensor.name}", error, REMEDY) from error
