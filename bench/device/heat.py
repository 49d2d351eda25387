"""Heat and clocks of a device: what it shows around a window, whether it throttled, and cooling down before it.

Reads thermal zones, cpufreq and devfreq clocks, cooling devices (Linux `Documentation/ABI/testing/sysfs-class-thermal`,
`Documentation/admin-guide/pm/cpufreq.rst`), the throttle counts of x86 and of Jetson's over-current monitor, and
`vcgencmd get_throttled` of a Raspberry Pi. Reads only; nothing is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.device.job import Cooling
from bench.device.meters.files import read_number, read_or
from bench.device.meters.pmic import ask_vcgencmd, find_vcgencmd
from bench.errors import Unavailable
from bench.records import Climate

PLAUSIBLE_C = (-40.0, 150.0)
WHOLE_DEGREE = 1000
"""Thousandths below which a zone is not believed: it is off (0), or counts in degrees (41), as some vendors' do."""
PI_SLOWED_BY = {0: "under-voltage", 1: "a capped clock", 2: "throttling", 3: "the soft temperature limit"}
"""Bits of `get_throttled` for this moment; 16 more is the same since boot."""
SINCE_BOOT = 16
COOLING = ("cpufreq-", "thermal-cpufreq", "devfreq-", "thermal-devfreq", "Processor")
"""Types of cooling devices that slow a processor down; a fan does not."""
STEP_S = 1.0
STEADY_STEPS = 10
STEADY_C = 0.5
"""A device is steady when its hottest zone moved less than this in `STEADY_STEPS` steps."""


def read_climate(root: Path, moment: str) -> Climate:
    """Heat and clocks now. What cannot be read is left out; a tool that refuses is named in `unread`."""
    slowed, counts, unread = [], dict(_throttle_counts(root)), []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = read_or(device / "type", "")
        if kind.startswith(COOLING) and (_number(device / "cur_state") or 0) > 0:
            slowed.append(f"{kind} holds the clock down because of heat")
    if command := find_vcgencmd(root):
        try:
            bits = int(ask_vcgencmd(command, "get_throttled").strip().partition("=")[2], 16)
            slowed += [f"slowed by {text}" for bit, text in PI_SLOWED_BY.items() if bits >> bit & 1]
            counts |= {text: bits >> (bit + SINCE_BOOT) & 1 for bit, text in PI_SLOWED_BY.items()}
        except (Unavailable, ValueError) as error:
            unread.append(f"throttling of the Raspberry Pi: {error}")
    return Climate(
        moment=moment,
        at_ns=time.time_ns(),
        celsius=dict(_temperatures(root)),
        mhz=dict(_clocks(root)),
        limit_mhz=dict(_limits(root)),
        governors=tuple(sorted(set(_governors(root)))),
        slowed=tuple(slowed),
        counts=counts,
        unread=tuple(unread),
    )


def read_heat(root: Path) -> tuple[float | None, float | None]:
    """The hottest zone in °C and the fastest clock in MHz now: what costs little to read."""
    return _hottest(root), max((mhz for _, mhz in _clocks(root)), default=None)


def find_throttling(before: Climate, after: Climate) -> tuple[str, ...]:
    """What slowed the device between two moments: flags at either, counts that grew, limits that fell."""
    grown = [
        f"throttled during the window: {name}"
        for name, count in after.counts.items()
        if count > before.counts.get(name, count)
    ]
    fallen = [
        f"the limit of {name} fell from {before.limit_mhz[name]:.0f} to {limit:.0f} MHz"
        for name, limit in after.limit_mhz.items()
        if limit < before.limit_mhz.get(name, limit)
    ]
    return tuple(dict.fromkeys([*before.slowed, *after.slowed, *grown, *fallen]))


def cool_down(
    root: Path,
    cooling: Cooling,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Waits until the hottest zone is steady and below the ceiling, `cooling.limit_s` at most.

    Returns why what follows must not be believed: it began above the ceiling, or nothing shows how hot it is.
    """
    if cooling.limit_s <= 0:
        return ()
    end, hottest = now() + cooling.limit_s, [_hottest(root)]
    while hottest[-1] is not None and now() < end and not _is_calm(hottest, cooling.ceiling_c):
        sleep(STEP_S)
        hottest.append(_hottest(root))
    last, ceiling = hottest[-1], cooling.ceiling_c
    if ceiling is None or (last is not None and last <= ceiling):
        return ()
    if last is None:
        return (f"no thermal zone shows whether it is below the ceiling of {ceiling:g} °C",)
    return (f"began at {last:.1f} °C, above the ceiling of {ceiling:g} °C, after {cooling.limit_s:g} s of cooling",)


def _is_calm(hottest: list[float | None], ceiling_c: float | None) -> bool:
    if len(hottest) <= STEADY_STEPS:
        return False
    last, earlier = hottest[-1] or 0.0, hottest[-1 - STEADY_STEPS] or 0.0
    return abs(earlier - last) < STEADY_C and (ceiling_c is None or last <= ceiling_c)


def _hottest(root: Path) -> float | None:
    return max((celsius for _, celsius in _temperatures(root)), default=None)


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    seen: dict[str, int] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value, name = _number(zone / "temp"), read_or(zone / "type", zone.name)
        if value is None or abs(value) < WHOLE_DEGREE:
            continue
        if PLAUSIBLE_C[0] < value / 1000 < PLAUSIBLE_C[1]:
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name} {seen[name]}"), value / 1000


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def _clocks(root: Path) -> Iterator[tuple[str, float]]:
    for policy in _policies(root):
        if (value := _number(policy / "scaling_cur_freq")) is not None:
            yield f"cpu {policy.name}", value / 1e3
    for device in sorted((root / "sys/class/devfreq").glob("*gpu*")):
        if (value := _number(device / "cur_freq")) is not None:
            yield device.name, value / 1e6


def _limits(root: Path) -> Iterator[tuple[str, float]]:
    for policy in _policies(root):
        if (value := _number(policy / "scaling_max_freq")) is not None:
            yield f"cpu {policy.name}", value / 1e3


def _governors(root: Path) -> Iterator[str]:
    return filter(None, (read_or(policy / "scaling_governor", "") for policy in _policies(root)))


def _throttle_counts(root: Path) -> Mapping[str, int]:
    """Counts since boot: x86 cores and packages, Jetson's over-current events."""
    cpus, boards = root / "sys/devices/system/cpu", root / "sys/class/hwmon"
    found = {
        "heat of a core": cpus.glob("cpu*/thermal_throttle/core_throttle_count"),
        "heat of the package": cpus.glob("cpu*/thermal_throttle/package_throttle_count"),
        "over-current": boards.glob("*/oc*_event_cnt"),
    }
    counts = {name: [value for path in paths if (value := _number(path)) is not None] for name, paths in found.items()}
    return {name: sum(values) for name, values in counts.items() if values}


def _number(path: Path) -> int | None:
    try:
        return read_number(path)
    except (OSError, ValueError):
        return None
