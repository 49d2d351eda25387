"""A sustained run on a clock of its own: windows are bounded and hold every inference."""

from __future__ import annotations

import pytest

from bench.device.heat import read_heat
from bench.device.sustain import MOST_WINDOWS, sustain
from bench.device.timing import RunQueue

MS = 1_000_000


class Device:
    """Gets slower by a step after `cool_s` seconds; its clock is the test's."""

    def __init__(self, each_ms: float, *, hot_ms: float | None = None, cool_s: float = 0.0) -> None:
        self.ns, self.runs, self.each, self.hot = 0, 0, int(each_ms * MS), int((hot_ms or each_ms) * MS)
        self.cool_ns = int(cool_s * 1e9)

    def run(self) -> None:
        self.ns += self.each if self.ns < self.cool_ns else self.hot
        self.runs += 1

    def now(self) -> int:
        return self.ns


def sustained(fake: Device, seconds: float, root, **more):
    return sustain(fake.run, RunQueue(root), seconds, lambda: (40.0, None), now=fake.now, **more)


def test_each_second_leaves_one_window_and_every_inference_is_counted(tmp_path):
    device = Device(10.0)
    windows = sustained(device, 5, tmp_path)
    assert [round(window.start_s) for window in windows] == [0, 1, 2, 3, 4]
    assert sum(window.inferences for window in windows) == device.runs
    assert {(window.p50_ns, window.p99_ns) for window in windows} == {(10 * MS, 10 * MS)}
    assert {(window.hottest_c, window.fastest_mhz) for window in windows} == {(40.0, None)}


def test_windows_show_when_a_device_slows_down(tmp_path):
    windows = sustained(Device(10.0, hot_ms=20.0, cool_s=3), 6, tmp_path)
    assert [window.p50_ns // MS for window in windows][:3] == [10, 10, 10]
    assert windows[-1].p50_ns == 20 * MS


def test_a_long_run_has_longer_windows_and_no_more_of_them(tmp_path):
    windows = sustained(Device(50.0), 1800, tmp_path)
    assert len(windows) <= MOST_WINDOWS
    assert windows[0].seconds == pytest.approx(3.0, abs=0.2)


def test_an_inference_longer_than_a_window_is_a_window(tmp_path):
    windows = sustained(Device(2500.0), 5, tmp_path)
    assert [(window.inferences, window.seconds) for window in windows] == [(1, 2.5), (1, 2.5)]


def test_a_clock_of_the_device_counts_where_there_is_one(tmp_path):
    windows = sustained(Device(10.0), 2, tmp_path, device=lambda: 7)
    assert {window.p50_ns for window in windows} == {7}


def test_samples_that_waited_for_a_cpu_are_left_out_unless_all_did(tmp_path):
    path = tmp_path / "proc/thread-self/schedstat"
    path.parent.mkdir(parents=True)
    device, waited = Device(10.0), [0]

    def wait(ns: int) -> None:
        waited[0] += ns
        path.write_text(f"1 {waited[0]} 1\n")

    def run() -> None:
        device.run()
        if device.runs % 5 == 0:
            device.ns += 90 * MS
            wait(90 * MS)

    wait(0)
    (window, *_) = sustain(run, RunQueue(tmp_path), 2, lambda: (None, None), now=device.now)
    assert window.p99_ns == 10 * MS
    device.ns = device.runs = 0
    always = lambda: (device.run(), wait(MS))  # noqa: E731
    (window, *_) = sustain(always, RunQueue(tmp_path), 2, lambda: (None, None), now=device.now)
    assert window.p50_ns == 10 * MS


def test_heat_of_a_device_that_shows_none_is_none(tmp_path):
    assert read_heat(tmp_path) == (None, None)
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu")
    (zone / "temp").write_text("51250")
    assert read_heat(tmp_path) == (51.25, None)
