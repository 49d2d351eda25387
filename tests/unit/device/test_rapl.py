"""RAPL against a folder that looks like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.device.energy import energy_windows, open_meters
from bench.device.job import MeterChoice
from bench.device.meters.rapl import Rapl
from bench.errors import Unavailable

RANGE_UJ = 1_000_000


def zone(root: Path, name: str, microjoules: int, counts: str = "package-0") -> Path:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{counts}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return folder


def test_packages_are_summed_and_neither_their_parts_nor_the_platform_that_holds_them(tmp_path):
    first, second = zone(tmp_path, "intel-rapl:0", 100), zone(tmp_path, "intel-rapl:1", 200, "package-1")
    part, whole = zone(tmp_path, "intel-rapl:0:0", 50, "core"), zone(tmp_path, "intel-rapl:2", 70, "psys")
    meter = Rapl.open(tmp_path)
    for folder, value in ((first, 500_100), (second, 300_200), (part, 999_999), (whole, 999_999)):
        (folder / "energy_uj").write_text(str(value))
    assert meter.read().joules == pytest.approx(0.8)


def test_a_counter_that_wrapped_goes_on_growing(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", 900_000)
    meter = Rapl.open(tmp_path)
    (package / "energy_uj").write_text("100000")
    assert meter.read().joules == pytest.approx(0.2)
    (package / "energy_uj").write_text("150000")
    assert meter.read().joules == pytest.approx(0.25)


def test_a_counter_that_was_reset_gives_no_joules_until_the_next_window(tmp_path):
    """A suspend begins it at 0 again: as a wrap it would count the whole range."""
    package = zone(tmp_path, "intel-rapl:0", 300_000)
    meter = Rapl.open(tmp_path)
    (package / "energy_uj").write_text("100")
    with pytest.raises(Unavailable, match="intel-rapl:0 fell from 300000 to 100 and wraps at 1000000: it was reset"):
        meter.read()
    meter.resume()
    (package / "energy_uj").write_text("200100")
    assert meter.read().joules == pytest.approx(0.2)


def test_no_counter_is_unavailable_with_the_way_to_get_one(tmp_path):
    zone(tmp_path, "intel-rapl:0", 1, "psys")
    with pytest.raises(Unavailable, match="no RAPL package counter"):
        Rapl.open(tmp_path)


def test_a_counter_nobody_may_read_is_unavailable(tmp_path):
    (zone(tmp_path, "intel-rapl:0", 1) / "energy_uj").write_text("not a number")
    with pytest.raises(Unavailable, match="cannot be read"):
        Rapl.open(tmp_path)


def test_a_meter_that_does_not_open_is_an_event_with_the_reason(tmp_path):
    said = []
    meters = open_meters([MeterChoice(path="bench.device.meters.rapl:Rapl")], tmp_path, said.append)
    assert meters == []
    assert [event.name for event in said] == ["rapl"]
    assert "no RAPL" in said[0].reason


def test_a_window_holds_what_the_counter_grew_by_and_how_often_it_ran(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", 0)
    (package / "max_energy_range_uj").write_text(str(2**50))
    count = [0]

    def run():
        count[0] += 1
        (package / "energy_uj").write_text(str(100_000 * count[0]))

    (read,) = energy_windows([Rapl.open(tmp_path)], run, 0.0)
    window = read.window
    assert window.inferences == count[0] > 1
    assert window.joules == pytest.approx(count[0] * 0.1)
    assert window.idle_joules == 0.0
    assert window.seconds >= Rapl.min_window_s


def test_a_window_is_distrusted_for_what_slowed_it_in_its_middle_alone(tmp_path):
    class Cooled(Rapl):
        """Slow while it works, recovered whenever its condition is asked."""

        def slowed(self):
            return ("slowed down by heat",)

    zone(tmp_path, "intel-rapl:0", 0)
    (read,) = energy_windows([Cooled.open(tmp_path)], lambda: None, 0.0)
    assert read.distrust == ("slowed down by heat",)
