"""Meters of boards against folders and tools that look like the boards' own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from bench.device.meters.battery import Battery
from bench.device.meters.hwmon import Hwmon, grown
from bench.device.meters.ina3221 import Ina3221, choose_rails, find_rails
from bench.device.meters.pmic import Pmic, read_rails
from bench.device.meters.rapl import Rapl
from bench.errors import Unavailable

PMIC = """   3V3_SYS_A current(1)=0.08783784A
   VDD_CORE_A current(7)=1.50000000A
   3V3_SYS_V volt(9)=3.30000000V
   VDD_CORE_V volt(15)=0.80000000V
   EXT5V_V volt(24)=5.14870000V
   BATT_V volt(25)=0.00000000V
"""


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def orin_nano(root: Path) -> Path:
    """One monitor, JetPack 6: VDD_IN feeds the other two."""
    rails = {"in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in3_label": "VDD_SOC"}
    values = {"in1_input": 5000, "curr1_input": 1200, "in2_input": 5000, "curr2_input": 500, "in3_input": 5000}
    shunts = {"in7_label": "sum of shunt voltages", "in7_input": 4, "curr3_input": 300, "curr4_input": 2000}
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    return write(folder, name="ina3221", **rails, **values, **shunts)


def agx_orin(root: Path) -> None:
    """Two monitors, JetPack 5; one channel of the second is not connected and one is fed by VIN_SYS_5V0."""
    for address, names in (
        ("1-0040", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
        ("1-0041", ("NC", "VDDQ_VDD2_1V8AO", "NC")),
    ):
        files = {f"in{number}_label": name for number, name in enumerate(names, 1)}
        files |= {f"in{number}_input": 5000 for number in (1, 2, 3)} | {f"curr{n}_input": 100 for n in (1, 2, 3)}
        write(root / f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{address[-1]}", name="ina3221", **files)


def vcgencmd(root: Path, text: str) -> Path:
    folder = write(root / "usr/bin")
    script = folder / "vcgencmd"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def nobodys_root():
    """A root in which this process has no more rights than any other user; everything written before stays root's."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
    shutil.rmtree(folder)


def deny(path: Path) -> None:
    """Nobody but root may read it, and this process is nobody from here on."""
    path.chmod(0o400)
    if os.getuid() == 0:
        os.seteuid(65534)
    else:
        path.chmod(0)


def test_the_rail_of_the_whole_module_counts_by_itself(tmp_path):
    orin_nano(tmp_path)
    meter = Ina3221.open(tmp_path)
    assert meter.condition().notes == {"rails_w": {"VDD_IN": 6.0}, "rails_left_out": ["VDD_CPU_GPU_CV", "VDD_SOC"]}


def test_rails_that_no_other_rail_feeds_are_summed_over_two_monitors(tmp_path):
    agx_orin(tmp_path)
    found = tuple(find_rails(tmp_path))
    assert [rail.name for rail in found] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert [rail.name for rail in choose_rails(found, "")] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]


def test_a_target_can_name_the_rails(tmp_path):
    orin_nano(tmp_path)
    meter = Ina3221.open(tmp_path, {"rails": "VDD_SOC, VDD_CPU_GPU_CV"})
    assert meter.condition().notes["rails_w"] == {"VDD_SOC": 1.5, "VDD_CPU_GPU_CV": 2.5}
    with pytest.raises(Unavailable, match=r"no rail VDD_GPU \(rails here: VDD_IN, VDD_CPU_GPU_CV, VDD_SOC\)"):
        Ina3221.open(tmp_path, {"rails": "VDD_GPU"})


def test_the_older_driver_and_the_class_folder_give_the_same_rails_once(tmp_path):
    old = tmp_path / "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    write(old, rail_name_0="VDD_IN", in_voltage0_input=5000, in_current0_input=1000, rail_name_1="NC")
    assert [(rail.name, rail.watts()) for rail in find_rails(tmp_path)] == [("VDD_IN", 5.0)]
    new = orin_nano(tmp_path / "new")
    (tmp_path / "new/sys/class/hwmon").mkdir(parents=True)
    (tmp_path / "new/sys/class/hwmon/hwmon3").symlink_to(new)
    assert len(list(find_rails(tmp_path / "new"))) == 3


def test_a_board_without_a_monitor_names_another_meter(tmp_path):
    with pytest.raises(Unavailable, match="try the meter hwmon"):
        Ina3221.open(tmp_path)


def test_a_rail_without_its_current_is_left_out(tmp_path):
    (orin_nano(tmp_path) / "curr3_input").unlink()
    assert [rail.name for rail in find_rails(tmp_path)] == ["VDD_IN", "VDD_CPU_GPU_CV"]


@pytest.mark.parametrize("name", ["ina3221", "hwmon", "rapl", "battery"])
def test_a_refused_file_names_the_rule_that_opens_it(nobodys_root, name):
    rapl = {"name": "package-0", "energy_uj": 1, "max_energy_range_uj": 9}
    battery = {"type": "Battery", "status": "Discharging", "power_now": 1}
    kind, folder, file, words = {
        "ina3221": (Ina3221, orin_nano(nobodys_root), "curr1_input", "99-ina3221.rules"),
        "hwmon": (
            Hwmon,
            write(nobodys_root / "sys/class/hwmon/hwmon0", name="amd_energy", energy1_input=1),
            "energy1_input",
            "99-hwmon.rules",
        ),
        "rapl": (Rapl, write(nobodys_root / "sys/class/powercap/intel-rapl:0", **rapl), "energy_uj", "99-rapl.rules"),
        "battery": (
            Battery,
            write(nobodys_root / "sys/class/power_supply/BAT0", **battery),
            "power_now",
            "chmod a+r",
        ),
    }[name]
    deny(folder / file)
    with pytest.raises(Unavailable, match="your user may not open") as error:
        kind.open(nobodys_root)
    assert file in str(error.value)
    assert words in str(error.value)


def test_the_rails_of_the_power_chip_need_volts_and_amperes(tmp_path):
    vcgencmd(tmp_path, f"cat <<'END'\n{PMIC}END")
    assert read_rails(tmp_path / "usr/bin/vcgencmd") == pytest.approx({"3V3_SYS": 0.08783784 * 3.3, "VDD_CORE": 1.2})
    assert "USB" in str(Pmic.open(tmp_path).condition().notes["rails_left_out"])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'VCHI initialization failed: Can not open /dev/vcio' >&2; exit 255", "group video"),
        ("echo 'error=1 error_msg=\"Command not registered\"'", "Command not registered"),
        ("echo EXT5V_V 'volt(24)=5.1V'", "names no rail"),
    ],
)
def test_a_power_chip_that_does_not_answer_says_why(tmp_path, script, words):
    vcgencmd(tmp_path, script)
    with pytest.raises(Unavailable, match=words):
        Pmic.open(tmp_path)


def test_without_vcgencmd_the_package_is_named(tmp_path):
    with pytest.raises(Unavailable, match="raspi-utils"):
        Pmic.open(tmp_path)


def test_several_sensors_are_never_summed_but_named(tmp_path):
    write(tmp_path / "sys/class/hwmon/hwmon0", name="ina260", power1_input=2_000_000, power2_input=1)
    write(tmp_path / "sys/class/hwmon/hwmon1", name="ina3221", power1_input=9)
    with pytest.raises(Unavailable, match=r"sensors here: ina260:power1, ina260:power2"):
        Hwmon.open(tmp_path)
    assert Hwmon.open(tmp_path, {"sensor": "ina260:power1"}).condition().notes["sensor"] == "ina260:power1"
    with pytest.raises(Unavailable, match="no sensor 'cpu'"):
        Hwmon.open(tmp_path, {"sensor": "cpu"})
    with pytest.raises(Unavailable, match="shows none"):
        Hwmon.open(tmp_path / "sys")


def test_sensors_of_the_same_name_carry_the_folder_or_the_file_in_which_they_differ(tmp_path):
    chips = tmp_path / "sys/class/hwmon"
    write(chips / "hwmon2", name="ina226", power1_input=2_000_000)
    write(chips / "hwmon3", name="ina226", power1_input=1)
    with pytest.raises(Unavailable, match=r"sensors here: ina226:power1:hwmon2, ina226:power1:hwmon3"):
        Hwmon.open(tmp_path)
    meter = Hwmon.open(tmp_path, {"sensor": "ina226:power1:hwmon2"})
    assert meter._sensor.path == chips / "hwmon2/power1_input"
    write(tmp_path / "gpu/sys/class/hwmon/hwmon0", name="amdgpu", power1_input=1, power1_average=2, power1_label="PPT")
    with pytest.raises(Unavailable, match=r"amdgpu:PPT:power1_average, amdgpu:PPT:power1_input\)"):
        Hwmon.open(tmp_path / "gpu")


def test_a_counter_goes_on_growing_past_32_and_64_bits(tmp_path):
    folder = write(tmp_path / "sys/class/hwmon/hwmon0", name="scmi", energy1_input=2**32 - 500_000, energy1_label="pkg")
    meter = Hwmon.open(tmp_path, {"sensor": "scmi:pkg"})
    (folder / "energy1_input").write_text("500000")
    assert meter.read().joules == pytest.approx(1.0)
    assert grown(2**64 - 10, 5, "it") == 15


def test_a_counter_that_was_reset_gives_no_joules_until_the_next_window(tmp_path):
    folder = write(tmp_path / "sys/class/hwmon/hwmon0", name="scmi", energy1_input=12_000_000, energy1_label="pkg")
    meter = Hwmon.open(tmp_path)
    (folder / "energy1_input").write_text("5")
    with pytest.raises(
        Unavailable, match="the sensor scmi:pkg fell from 12000000 to 5 and wraps at 4294967296: it was reset"
    ):
        meter.read()
    meter.resume()
    (folder / "energy1_input").write_text("1000005")
    assert meter.read().joules == 1.0


def test_a_battery_counts_while_it_discharges_whatever_the_sign_of_its_current(tmp_path):
    files = {"type": "Battery", "status": "Discharging", "current_now": -500_000, "voltage_now": 4_000_000}
    folder = write(tmp_path / "sys/class/power_supply/battery", **files, capacity=80)
    write(tmp_path / "sys/class/power_supply/usb", type="USB", online=0)
    meter = Battery.open(tmp_path)
    meter.resume()
    first = meter.read()
    second = meter.read()
    meter.pause()
    assert second.joules - first.joules == pytest.approx(2.0 * (second.at_ns - first.at_ns) / 1e9)
    (folder / "status").write_text("Charging\n")
    with pytest.raises(Unavailable, match="unplug the charger"):
        meter.read()


def test_a_rail_of_the_power_chip_with_a_negative_current_counts_as_it_is(tmp_path):
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{PMIC.replace('=0.08783784A', '=-0.10000000A')}END\n")
    tool.chmod(0o755)
    assert read_rails(tool) == pytest.approx({"3V3_SYS": -0.33, "VDD_CORE": 1.2})


def test_two_batteries_or_an_unknown_one_are_named(tmp_path):
    with pytest.raises(Unavailable, match="batteries here: none"):
        Battery.open(tmp_path)
    for name in ("BAT0", "BAT1"):
        write(tmp_path / "sys/class/power_supply" / name, type="Battery", status="Discharging", power_now=1)
    with pytest.raises(Unavailable, match="one of BAT0, BAT1"):
        Battery.open(tmp_path)
    assert Battery.open(tmp_path, {"supply": "BAT1"}).condition().notes["supply"] == "BAT1"
