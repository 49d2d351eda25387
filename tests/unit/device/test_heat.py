"""Heat and clocks of boards, on folders that look like theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.device.heat import cool_down, find_throttling, read_climate
from bench.device.job import Cooling
from bench.records import Climate


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def zone(root: Path, number: int, kind: str, millidegrees: object) -> Path:
    return write(root / f"sys/class/thermal/thermal_zone{number}", type=kind, temp=millidegrees)


def board(root: Path) -> None:
    """A Jetson: one zone that is off, a fan, two processors, a GPU, the over-current monitor."""
    zone(root, 0, "cpu-thermal", 51_250)
    zone(root, 1, "gpu-thermal", 48_000)
    zone(root, 2, "cv0-thermal", -256_000)
    zone(root, 3, "cpu-thermal", 50_000)
    write(root / "sys/class/thermal/cooling_device0", type="pwm-fan", cur_state=2)
    write(root / "sys/class/thermal/cooling_device1", type="thermal-cpufreq-0", cur_state=0)
    for number in (0, 4):
        clocks = {"scaling_cur_freq": 1_510_400, "scaling_max_freq": 1_510_400, "scaling_governor": "schedutil"}
        write(root / f"sys/devices/system/cpu/cpufreq/policy{number}", **clocks)
    write(root / "sys/class/devfreq/17000000.gpu", cur_freq=624_750_000)
    write(root / "sys/class/hwmon/hwmon1", name="soctherm_oc", oc1_event_cnt=0, oc3_event_cnt=2)


def pi(root: Path, throttled: str) -> None:
    script = write(root / "usr/bin") / "vcgencmd"
    script.write_text(f"#!/bin/sh\necho {throttled}\n")
    script.chmod(0o755)


def test_zones_clocks_limits_governors_and_counts_are_read(tmp_path):
    board(tmp_path)
    found = read_climate(tmp_path, "before timing")
    assert found.celsius == {"cpu-thermal": 51.25, "gpu-thermal": 48.0, "cpu-thermal 2": 50.0}
    assert found.hottest_c == 51.25
    assert found.mhz == {"cpu policy0": 1510.4, "cpu policy4": 1510.4, "17000000.gpu": 624.75}
    assert found.governors == ("schedutil",)
    assert found.counts == {"over-current": 2}
    assert (found.slowed, found.unread) == ((), ())


def test_a_board_that_shows_nothing_is_empty(tmp_path):
    found = read_climate(tmp_path, "x")
    assert replace(found, at_ns=0) == Climate(moment="x", at_ns=0)
    assert (found.hottest_c, found.fastest_mhz) == (None, None)
    assert find_throttling(found, found) == ()


def test_a_zone_in_whole_degrees_or_at_zero_is_left_out(tmp_path):
    """Some vendors' zones count in degrees: 41 would be 0.041 °C, below every ceiling."""
    for number, value in enumerate((41, 0, 315)):
        zone(tmp_path, number, "tsens", value)
    assert read_climate(tmp_path, "x").celsius == {}
    assert cool_down(tmp_path, Cooling(limit_s=1, ceiling_c=40.0)) == (
        "no thermal zone shows whether it is below the ceiling of 40 °C",
    )


def test_a_cooling_device_that_holds_a_clock_down_is_throttling_and_a_fan_is_not(tmp_path):
    board(tmp_path)
    before = read_climate(tmp_path, "before")
    write(tmp_path / "sys/class/thermal/cooling_device1", cur_state=3)
    after = read_climate(tmp_path, "after")
    assert find_throttling(before, after) == ("thermal-cpufreq-0 holds the clock down because of heat",)


def test_counts_that_grow_and_limits_that_fall_between_two_moments_are_throttling(tmp_path):
    board(tmp_path)
    cores = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle"
    write(cores, core_throttle_count=7, package_throttle_count=1)
    before = read_climate(tmp_path, "before")
    write(cores, core_throttle_count=9)
    write(tmp_path / "sys/devices/system/cpu/cpufreq/policy4", scaling_max_freq=729_600)
    assert find_throttling(before, read_climate(tmp_path, "after")) == (
        "throttled during the window: heat of a core",
        "the limit of cpu policy4 fell from 1510 to 730 MHz",
    )


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("throttled=0x0", "throttled=0x0", ()),
        ("throttled=0x50000", "throttled=0x50000", ()),  # long before
        ("throttled=0x0", "throttled=0x20000", ("throttled during the window: a capped clock",)),
        ("throttled=0x0", "throttled=0x4", ("slowed by throttling",)),
        ("throttled=0x1", "throttled=0x0", ("slowed by under-voltage",)),
    ],
)
def test_the_flags_of_a_raspberry_pi_count_now_or_if_they_are_new(tmp_path, before, after, reasons):
    pi(tmp_path, before)
    first = read_climate(tmp_path, "before")
    pi(tmp_path, after)
    assert find_throttling(first, read_climate(tmp_path, "after")) == reasons


def test_flags_that_are_refused_are_said(tmp_path):
    pi(tmp_path, "Can not open /dev/vcio; exit 255")
    assert "group video" in read_climate(tmp_path, "x").unread[0]


class Cooler:
    """A zone that falls by `step` degrees a second, to `floor`."""

    def __init__(self, root, start, step, floor):
        self.root, self.celsius, self.step, self.floor, self.seconds = root, start, step, floor, 0.0
        zone(root, 0, "cpu", round(start * 1000))

    def sleep(self, seconds):
        self.seconds += seconds
        self.celsius = max(self.floor, self.celsius - self.step)
        zone(self.root, 0, "cpu", round(self.celsius * 1000))


def test_cooling_ends_when_the_zone_is_steady_and_below_the_ceiling(tmp_path):
    cooler = Cooler(tmp_path, 80.0, 1.0, 50.0)
    cooling = Cooling(limit_s=300.0, ceiling_c=60.0)
    assert cool_down(tmp_path, cooling, now=lambda: cooler.seconds, sleep=cooler.sleep) == ()
    assert 30 < cooler.seconds <= 45


def test_a_device_that_stays_above_the_ceiling_is_distrusted(tmp_path):
    cooler = Cooler(tmp_path, 80.0, 1.0, 70.0)
    cooling = Cooling(limit_s=60.0, ceiling_c=60.0)
    (reason,) = cool_down(tmp_path, cooling, now=lambda: cooler.seconds, sleep=cooler.sleep)
    assert "began at 70.0 °C, above the ceiling of 60 °C" in reason
    assert cooler.seconds == 60


def test_nothing_is_waited_for_without_a_limit_and_a_ceiling_needs_a_zone(tmp_path):
    assert cool_down(tmp_path, Cooling(ceiling_c=1.0)) == ()
    assert "no thermal zone" in cool_down(tmp_path, Cooling(limit_s=9.0, ceiling_c=60.0))[0]
    assert cool_down(tmp_path, Cooling(limit_s=9.0)) == ()
