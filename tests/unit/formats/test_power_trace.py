"""Traces of external meters, as their tools write them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from bench.errors import InvalidInput
from bench.formats.power_trace import read_trace

PPK2 = "Timestamp(ms),Current(uA),D0-D7\n0.0,1000,00000000\n10.0,3000,00000000\n20.0,3000,00000000\n"
OTII = "Timestamp (s);Arc Main current (A);Arc Main voltage (V)\n0;0.001;3.0\n0.01;0.003;3.0\n0.02;0.003;3.0\n"
JOULESCOPE = "#time,current,voltage,power,charge,energy\n1.00,1,1,0.003,0,0\n1.01,1,1,0.009,0,0\n1.02,1,1,0.009,0,0\n"
CUBE = "LPM01A\nTime (ms);Current (nA)\n0;1000000\n10;3000000\n20;3000000\n"
EEMBC = b"\xf1" + struct.pack("<f", 100.0) + struct.pack("<2f", 60.0, 90.0) + b"\x00\x01"
LPM01A = "PowerShield > ack start\n1000-06\nTimeStamp: 000s 010ms, buff 02%\n3000-06\n3000-06\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (PPK2, {"volts": 3.0}),
        (OTII, {}),
        (JOULESCOPE, {}),
        (CUBE, {"volts": 3}),
        (LPM01A, {"volts": 3.0, "rate": 100}),
        ("time_ms,current_uA\n0,1000\n10,3000\n20,3000\n", {"volts": 3.0}),
        ("Time ms;Power mw\n0;3\n10;9\n20;9\n", {}),
        ("# Start time: 2026-01-01 10:00\r\ntime,power\r\n0,.003\r\n.01,.009\r\n.02,.009\r\n", {}),
    ],
)
def test_every_tool_gives_the_joules_by_hand(text, options):
    trace = read_trace(text.encode(), "trace.csv", options)
    assert trace.joules == pytest.approx([0.0, 60e-6, 150e-6], rel=1e-3)  # (3 + 9) mW / 2 * 10 ms, then 9 mW * 10 ms
    assert np.diff(trace.seconds) == pytest.approx([0.01, 0.01])
    assert not trace.absolute


def test_the_energy_runner_gives_the_energy_of_each_sample_and_a_cut_off_one_is_left_out():
    trace = read_trace(EEMBC, "js110", {})
    assert trace.joules == pytest.approx([0.0, 60e-6, 150e-6])
    assert trace.seconds == pytest.approx([0.0, 0.01, 0.02])


@pytest.mark.parametrize(
    ("times", "first"),
    [(("1764300000.5", "1764300001.5"), 1764300000.5), (("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"), 1767225600.0)],
)  # fmt: skip
def test_times_since_1970_and_dates_are_absolute(times, first):
    trace = read_trace(f"time (s),power (mW)\n{times[0]},1\n{times[1]},1\n".encode(), "t", {})
    assert trace.absolute
    assert trace.seconds[0] == first
    assert trace.joules[-1] == pytest.approx(1e-3)


def test_a_cumulative_energy_is_taken_as_it_is():
    trace = read_trace(b"time (s),energy (mJ)\n0,5\n1,7\n", "t", {})
    assert trace.joules == pytest.approx([0.0, 2e-3])


@pytest.mark.parametrize(
    ("energies", "joules"),
    [((0, 2, 5), [0.0, 2.0, 5.0]), ((0, 2, 1), [0.0, 1.5, 4.0]), ((0, 0, 0), [0.0, 1.5, 4.0])],
)
def test_what_the_instrument_counted_itself_is_taken_before_the_power_beside_it(energies, joules):
    """Joulescope's statistics: a power is the mean of the second before its row. Energies of single rows are no count."""
    rows = "".join(f"{at},{watts},{energy}\n" for at, watts, energy in zip((0, 1, 2), (1, 2, 3), energies, strict=True))
    trace = read_trace(f"#time,power,energy\n{rows}".encode(), "t", {})
    assert trace.joules == pytest.approx(joules)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"", {}, "no heading with a time column"),
        (b"\xf1\x00", {}, "a sample rate of 0.0"),
        (b"\xf1" + struct.pack("<2f", float("nan"), 1.0), {}, "a sample rate of nan"),
        (PPK2.encode(), {}, "does not say its volts"),
        (PPK2.encode(), {"volts": -1}, "does not say its volts"),
        (LPM01A.encode(), {"volts": 3}, "does not say its rate"),
        (b"time (s),power (mW)\n0,1\n", {}, "1 samples: at least 2"),
        (b"time (s),power (mW)\n0,1\n0,1\n", {}, "do not rise at sample 2"),
        (b"time (s),power (mW)\n0,1\n1,nan\n", {}, "not a finite number"),
        (b"time (s);power (mW)\n0;1,5\n1;2,5\n", {}, "decimals need a point"),
        (
            b"time (ms),power (mW)\n0,1,5\n1,2,5\n",
            {},
            "3 cells in the row '0,1,5', its heading has 2: decimals need a point",
        ),
        (b"time (s),current (mA),voltage (V)\n0,-100,5\n1,-120,5\n", {}, "more power is negative than positive: swap"),
        (b"time (s),power (kW)\n0,1\n1,1\n", {}, "unit 'kW'"),
        (b"time (s),energy (mJ)\n0,5\n1,7\n2,6\n", {}, "does not count up from the start"),
        (b"time (s),humidity\n0,1\n1,1\n", {}, "no column power, energy or current"),
        (b"time,power\n2026-99-01,1\n2026-99-02,1\n", {}, "neither a number nor a date"),
    ],
)
def test_what_is_not_a_trace_says_why(data, options, words):
    with pytest.raises(InvalidInput, match=words) as error:
        read_trace(data, "trace.csv", options)
    assert "trace.csv" in str(error.value)
