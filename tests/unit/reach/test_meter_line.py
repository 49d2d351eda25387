"""A meter on a serial line: a pseudo terminal that sends what a meter sends."""

from __future__ import annotations

import os
import pty
import struct
import time
from pathlib import Path

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


def receive(chunks: list[bytes]) -> MeterLine:
    """What a line received, one chunk a millisecond from second 1000 on."""
    line = MeterLine.__new__(MeterLine)
    line._port, line._options, line._data = Path("/dev/ttyACM0"), {"rate": 1000, "volts": 2}, bytearray()
    line._arrivals = []
    for number, chunk in enumerate(chunks):
        line._data += chunk
        line._arrivals.append((1000.0 + number / 1000, len(line._data)))
    return line


def test_a_last_line_received_in_part_is_no_sample():
    trace = receive([b"1000-03\r\n", b"1000-03\r\n", b"1000-03\r\n", b"1000-0"]).trace()
    assert trace.seconds.tolist() == pytest.approx([1000.0, 1000.001, 1000.002])
    assert trace.joules[-1] == pytest.approx(0.004)
    table = receive([b"time(s),power(W)\n", b"0.000,2.0\n", b"0.001,2", b".0\n0.002,2.0\n0.003,20"]).trace()
    assert table.seconds.tolist() == pytest.approx([1000.001, 1000.002, 1000.003])
    with pytest.raises(InvalidInput, match="no line begins with a digit"):
        receive([b"time(s),power(W)\n", b" 0.5,2.0\n 0.6,2.0\n"]).trace()


def test_a_text_of_many_chunks_is_read_once():
    chunks = [b"1000-03\n"] * 20_000
    began = time.process_time()
    trace = receive(chunks).trace()
    assert len(trace.seconds) == 20_000
    assert trace.seconds[0] == pytest.approx(1000.0)
    assert time.process_time() - began < 5


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
