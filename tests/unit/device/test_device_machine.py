"""Facts about a machine, on one that has less than Linux shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.device import machine
from bench.device.memory import Memory
from bench.device.timing import RunQueue


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A system without /proc, /sys and the calls only Linux has; its root."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    return tmp_path


def test_a_system_without_pinning_says_so_and_measures_all_the_same(elsewhere):
    assert machine.calm_cpus(elsewhere, 1) == ()
    assert "darwin" in machine.pin(elsewhere, 1)["pinning_missing"]
    assert machine.steal_ns(elsewhere) is None
    assert machine.facts(elsewhere)["cores"] == os.cpu_count()
    assert not RunQueue(elsewhere).known
    memory = Memory(elsewhere)
    with memory.phase("any"):
        pass
    assert memory.reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its CPUs")
def test_a_pinned_process_says_where_it_is():
    before = os.sched_getaffinity(0)
    try:
        assert machine.pin(Path("/"), 1) == {"pinned_cpus": sorted(os.sched_getaffinity(0))}
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        os.sched_setaffinity(0, before)


def stat(root: Path, ticks: int) -> None:
    folder = root / "proc/self"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"7 (a (b) c) S {' '.join('0' * 18)} {ticks} 0 0\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads a clock of Linux")
def test_the_age_of_a_process_is_the_time_since_the_tick_at_which_it_began(tmp_path, monkeypatch):
    stat(tmp_path, 250)
    monkeypatch.setattr(os, "sysconf", lambda _name: 100)
    monkeypatch.setattr(machine.time, "clock_gettime_ns", lambda _clock: 2_600_000_000)
    assert machine.process_age_ms(tmp_path) == 100.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads a clock of Linux")
def test_this_process_is_older_than_nothing_and_younger_than_the_machine():
    age = machine.process_age_ms(Path("/"))
    assert age is not None
    assert 0 < age < machine.time.clock_gettime_ns(machine.time.CLOCK_BOOTTIME) / 1e6


def test_a_kernel_that_does_not_say_when_a_process_began_gives_no_age(tmp_path, elsewhere):
    assert machine.process_age_ms(elsewhere) is None
    stat(tmp_path, 250)
    assert machine.process_age_ms(tmp_path) is None  # not Linux: another clock
