"""The simulated fleet measures every cell once, in no less time than its boards need."""

from __future__ import annotations

import pytest

from tools.fleet_sim.clock import Changed, Clock, Meter
from tools.fleet_sim.durations import read_table
from tools.fleet_sim.lab import simulate


def test_a_small_fleet_measures_all_and_needs_as_long_as_its_boards(tmp_path):
    table = read_table()
    found = simulate(table, boards=3, cells=48, database=str(tmp_path / "pressbench.db"), folder=tmp_path)
    assert found.took_s >= found.ideal_s
    assert found.took_s < sum(one.measuring_s for one in table)
    assert found.host_s > 0
    assert found.database_s > 0
    assert found.transactions > 2 * found.cells


def test_one_who_waits_wakes_at_its_time_or_when_it_is_called():
    clock = Clock(meter=Meter())
    changed, seen = Changed(clock), []

    def wait(seconds):
        seen.append((changed.wait(seconds), round(clock.now)))

    def call():
        clock.sleep(50.0)
        changed.notify_all()

    for work in (lambda: wait(10.0), lambda: wait(None), call):
        clock.add(work)
    clock.run()
    assert seen == [(False, 10), (True, 50)]


def test_an_error_of_a_thread_is_raised():
    clock = Clock(meter=Meter())
    clock.add(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clock.run()
