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
