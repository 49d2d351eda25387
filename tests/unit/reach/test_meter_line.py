"""A meter on a serial line: a pseudo terminal that sends what a meter sends."""

from __future__ import annotations

import os
import pty
import struct
import time

import pytest

from bench.device import events as say
from bench.errors import InvalidInput, Unavailable
from bench.line.measure import hear
from bench.reach.meter_line import MeterLine, listening, open_line
from bench.records import PENDING, EnergyWindow


def until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def test_samples_get_the_clock_of_their_earliest_arrival():
    ours, theirs = pty.openpty()
    with listening({"port": os.ttyname(theirs), "baud": 115200}) as line:
        assert isinstance(line, MeterLine)
        before = time.time()
        os.write(ours, b"\xf1" + struct.pack("<f", 1000.0))
        for _ in range(3):
            os.write(ours, struct.pack("<100f", *[5.0] * 100))
        until(lambda: len(line._data) == 1205)
        after = time.time()
    trace = line.trace()
    assert trace.absolute
    assert len(trace.seconds) == 301
    assert trace.joules[-1] == pytest.approx(300 * 5e-6)
    assert before - 0.31 <= trace.seconds[0] <= after
    assert trace.seconds[-1] <= after
    os.close(ours)
    os.close(theirs)


def test_a_line_that_does_not_open_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="plugged in"):
        open_line(tmp_path / "ttyACM0", 115200)
    with pytest.raises(Unavailable, match="not a serial line"):
        open_line(tmp_path / "file", 115200)
    for baud in (12, 0, -1, 115200.0, "115200", "fast", True):
        with pytest.raises(InvalidInput, match=rf"option baud is {baud!r}; .* as 115200 or 921600"):
            open_line(tmp_path / "file", baud)
    with listening({}) as line:
        assert line is None


def test_a_refused_line_names_the_group(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/dev/ttyACM0")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable, match="usermod -aG dialout"):
        open_line(tmp_path / "ttyACM0", 115200)


def test_windows_of_a_meter_that_is_not_there_become_its_reason(tmp_path):
    window = EnergyWindow(
        meter="external", source=PENDING, joules=0, seconds=1, inferences=1, idle_joules=0, idle_seconds=1
    )
    events = (say.EnergyRead(window=window, distrust=()), say.End())
    with listening({"port": str(tmp_path / "ttyACM0")}) as line:
        found = hear(events, line, {})
    assert isinstance(found[0], say.MeterMissing)
    assert "plugged in" in found[0].reason
    assert found[1:] == (say.End(),)
    assert hear(events, None, {}) == events
