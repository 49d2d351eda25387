"""The table of a board: what is there, what is missing, and the command that helps."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.device.board import probe


@pytest.fixture
def root(tmp_path):
    """A board that shows everything."""
    files = {
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4194304 kB\n",
        "proc/loadavg": "0.10 0.20 0.30 1/100 1234\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1510400",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "48312",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
        "sys/class/thermal/cooling_device0/cur_state": "2",
        "sys/class/hwmon/hwmon1/oc1_event_cnt": "3",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def table(root, **asked):
    asked = {"root": str(root), "folder": str(root), "meters": [], "runtimes": {}} | asked
    return {(row.kind, row.name): row for row in probe.look(asked)}


def test_a_board_that_shows_everything(root):
    rows = table(root)
    assert rows["governor", "cpu"].state == "schedutil"
    assert rows["governor", "cpu"].remedy.startswith("echo performance | sudo tee")
    assert rows["clock", "cpu policy0"].state == "730 of 1510 MHz"
    assert rows["thermal zone", "cpu-thermal"].state == "48.3 °C"
    assert rows["throttling", "now"].lacking == "cpufreq-cpu0 holds the clock down because of heat"
    assert rows["throttling", "now"].state == "over-current: 3 since boot"
    assert rows["memory", "ram"].state == "4096 MiB available"
    assert rows["memory", "ram"].lacking == ""
    assert rows["load", "other work"].lacking == ""
    assert rows["disk", str(root)].state.endswith("MiB free")


def test_a_board_that_shows_nothing_says_so(tmp_path):
    rows = table(tmp_path)
    assert rows["governor", "cpu"].lacking == "the kernel shows none"
    assert rows["clock", "cpu"].lacking == "the kernel shows none"
    assert rows["thermal zone", "any"].lacking == "the kernel shows none"
    assert rows["memory", "ram"].lacking == "the kernel shows none"
    assert rows["load", "other work"].lacking == "the kernel shows none"


def test_a_busy_and_a_full_board_are_said_with_a_remedy(root):
    (root / "proc/loadavg").write_text("3.50 1 1 1/1 1\n")
    (root / "proc/meminfo").write_text("MemAvailable: 1024 kB\n")
    rows = table(root)
    assert (rows["load", "other work"].lacking, rows["load", "other work"].remedy[:3]) == ("other programs run", "top")
    assert rows["memory", "ram"].lacking == "little memory"


def test_runtimes_and_meters_that_are_missing_come_with_the_command(root):
    rows = table(
        root,
        runtimes={"numpy": (["numpy"], "install it"), "nothing_here": (["nothing"], "pip install nothing")},
        meters=[("bench.device.meters.ina3221:Ina3221", {}), ("bench.device.meters.nothing:Gone", {})],
    )
    assert rows["runtime", "numpy"].state.startswith("numpy ")
    assert rows["runtime", "nothing_here"].remedy == "pip install nothing"
    assert rows["meter", "ina3221"].lacking
    assert "No module named" in rows["meter", "Gone"].lacking


def test_the_program_prints_one_line_of_json(root):
    asked = {"root": str(root), "folder": str(root), "meters": [], "runtimes": {}}
    (root / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-m", "bench.device.board.probe", str(root / "asked.json")], capture_output=True, check=True
    )
    assert json.loads(done.stdout)[0]["kind"] == "governor"
