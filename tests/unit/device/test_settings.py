"""A board's settings are set only when asked, and restored however the worker ends: on a fake /sys and fake commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from bench.device.board.settings import apply, restore, start_guard
from bench.device.job import Settings
from bench.errors import InvalidInput, Unavailable

POLICIES = "sys/devices/system/cpu/cpufreq"
NVPMODEL = """#!/bin/sh
echo "nvpmodel $*" >> {log}
if [ "$1" = -q ]; then echo "NV Power Mode: ANY"; cat {state}; else {change}; fi
"""
CLOCKS = """#!/bin/sh
echo "jetson_clocks $*" >> {log}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "notes"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    """Two policies at schedutil, a power mode 2, and commands that write down how they were called."""
    board = tmp_path / "board with a space"
    for number in (0, 4):
        policy = board / POLICIES / f"policy{number}"
        policy.mkdir(parents=True)
        (policy / "scaling_available_governors").write_text("performance schedutil\n")
        (policy / "scaling_governor").write_text("schedutil\n")
    command(board, "nvpmodel", NVPMODEL, change=f'echo "$2" > "{board}/mode"')
    command(board, "jetson_clocks", CLOCKS)
    (board / "mode").write_text("2\n")
    (board / "calls").touch()
    return board


def command(board: Path, name: str, text: str, change: str = "") -> None:
    path = board / "usr/sbin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(log=f'"{board}/calls"', state=f'"{board}/mode"', change=change))
    path.chmod(0o755)


def governors(root: Path) -> set[str]:
    return {path.read_text().strip() for path in (root / POLICIES).glob("policy*/scaling_governor")}


def calls(root: Path) -> list[str]:
    return (root / "calls").read_text().splitlines()


def noted(tmp_path: Path) -> str:
    return (tmp_path / "notes/settings").read_text()


def test_nothing_is_set_where_nothing_is_asked(root, tmp_path):
    guard = start_guard(root, Settings())
    assert (guard.applied, guard.close(), calls(root)) == ({}, (), [])
    assert not (tmp_path / "notes").exists()


def test_all_is_set_in_order_and_restored_in_the_opposite_one(root, tmp_path):
    guard = start_guard(root, Settings(governor="performance", nvpmodel=0, jetson_clocks=True))
    assert governors(root) == {"performance"}
    assert (root / "mode").read_text() == "0\n"
    assert guard.applied["governor"] == {
        "set": "performance",
        "before": {"policy0": "schedutil", "policy4": "schedutil"},
    }
    assert guard.applied["nvpmodel"] == {"set": 0, "before": 2}
    assert guard.close() == ()
    assert governors(root) == {"schedutil"}
    assert (root / "mode").read_text() == "2\n"
    stored = tmp_path / "notes/jetson_clocks.stored"
    changing = [call for call in calls(root) if not call.endswith("-q")]
    assert changing == [
        "nvpmodel -m 0",
        f"jetson_clocks --store {stored}",
        "jetson_clocks ",
        f"jetson_clocks --restore {stored}",
        "nvpmodel -m 2",
    ]
    assert noted(tmp_path) == ""


OWNER = """import signal, sys, time
from pathlib import Path
from bench.device.board.settings import start_guard
from bench.device.job import Settings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
start_guard(Path(sys.argv[1]), Settings(governor="performance", nvpmodel=0))
Path("ready").touch()
time.sleep(600)
"""


def start_owner(root: Path) -> subprocess.Popen[bytes]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(root)])
    wait_until(Path("ready").exists)
    assert governors(root) == {"performance"}
    return owner


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_worker_leaves_the_board_as_it_was(root, tmp_path, number):
    owner = start_owner(root)
    owner.send_signal(number)
    owner.wait()
    wait_until(lambda: (tmp_path / "notes/settings").stat().st_size == 0)
    assert governors(root) == {"schedutil"}
    assert (root / "mode").read_text() == "2\n"


def test_what_a_killed_guard_left_is_restored_by_the_next(root, tmp_path):
    owner = start_owner(root)
    os.kill(int(Path("guard").read_text()), signal.SIGKILL)
    owner.kill()
    owner.wait()
    assert governors(root) == {"performance"}
    guard = start_guard(root, Settings(governor="performance"))
    assert guard.applied["governor"]["before"] == {"policy0": "schedutil", "policy4": "schedutil"}
    assert guard.close() == ()
    assert governors(root) == {"schedutil"}
    assert (root / "mode").read_text() == "2\n"


def test_a_second_guard_waits_for_the_first_so_that_it_sees_the_boards_own_settings(root):
    owner = start_owner(root)
    asked = json.dumps({"root": str(root), "governor": "performance"})
    second = subprocess.Popen(
        [sys.executable, "-m", "bench.device.board.settings", asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    owner.kill()
    owner.wait()
    said, _ = second.communicate()
    assert json.loads(said.splitlines()[0])["applied"]["governor"]["before"]["policy0"] == "schedutil"
    assert governors(root) == {"schedutil"}


def test_a_governor_that_the_board_does_not_have_is_refused_and_the_rest_taken_back(root):
    with pytest.raises(InvalidInput, match="policy0 has no 'fast'; it has performance, schedutil"):
        start_guard(root, Settings(nvpmodel=0, governor="fast"))
    assert (root / "mode").read_text() == "2\n"
    assert governors(root) == {"schedutil"}


def test_a_refused_command_names_the_remedy(root):
    command(root, "nvpmodel", NVPMODEL, change="echo 'must be root' >&2; exit 1")
    with pytest.raises(Unavailable, match=r"nvpmodel: must be root: allow it .*NOPASSWD: .*nvpmodel' \| sudo tee"):
        start_guard(root, Settings(nvpmodel=0))


def test_a_governor_that_may_not_be_written_names_the_remedy(root, monkeypatch):
    def refuse(*_args, **_named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(Unavailable, match=r"Permission denied: run `sudo chmod a\+w /sys/.*scaling_governor`"):
        apply(root, Settings(governor="performance"), lambda _undos: None)


def test_a_mode_that_needs_a_restart_is_refused(root):
    command(root, "nvpmodel", NVPMODEL, change="true")
    with pytest.raises(Unavailable, match="the mode stayed 2: run `sudo nvpmodel -m 0`"):
        start_guard(root, Settings(nvpmodel=0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(nvpmodel=0), "nvpmodel: this device has no such command"),
        (Settings(jetson_clocks=True), "jetson_clocks: this device has no such command"),
        (Settings(governor="performance"), "governor: this device shows none"),
    ],
)
def test_a_device_without_the_setting_says_so(tmp_path, settings, words):
    with pytest.raises(Unavailable, match=words):
        start_guard(tmp_path / "bare", settings)


def test_what_cannot_be_restored_is_said_and_kept_for_the_next_guard(root, tmp_path):
    guard = start_guard(root, Settings(nvpmodel=0))
    command(root, "nvpmodel", NVPMODEL, change="echo broken >&2; exit 1")
    (reason,) = guard.close()
    assert reason.startswith("nvpmodel was not restored to 2: nvpmodel: broken")
    assert json.loads(noted(tmp_path)) == [{"kind": "nvpmodel", "before": 2}]
    with pytest.raises(Unavailable, match="an earlier run's settings cannot be restored"):
        start_guard(root, Settings(governor="performance"))
    assert restore(root, []) == ([], ())
