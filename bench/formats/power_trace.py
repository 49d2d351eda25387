"""The one reader of power traces that an external meter recorded.

- CSV with a heading, as Joulescope, Otii, LPM01A (STM32CubeMonitor-Power) and PPK2 (nRF Connect) export it: a time column,
  then power, energy, or current with a voltage column or the option `volts`. Units stand in brackets, `Current(uA)`, or
  behind the name, `current_uA`; without one it is s, W, J, A or V.
- EEMBC's energy runner: byte 0xF1, float32 samples per second, then float32 microjoules per sample, little-endian.
- The LPM01A's own serial text: one current per line as mantissa and exponent, `6409-07` for 640.9 uA.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.types import Scalar

EEMBC_MARK = 0xF1
EEMBC_HEAD = 5
HEADING = re.compile(r"^\W*(?P<name>[^()\[\]]*?)\s*(?:[(\[]\s*(?P<unit>[^)\]]*)[)\]])?\s*$")
BARE_UNIT = re.compile(r"[^A-Za-z]([munµμ]?)(s|W|J|A|V)$", re.IGNORECASE)
"""A unit behind the name of a column, without brackets."""
QUANTITIES = ("power", "energy", "current")
LPM01A = re.compile(r"^\s*(\d{1,5})([+-]\d{1,2})\s*$")
SCALES = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9}
YEAR_2001_S = 1e9
"""A time beyond it counts from 1970; before it, from the start of the recording."""
MOST_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Energy over time: `joules[i]` since the trace began, at `seconds[i]`; both float64 and rising.

    `absolute`: seconds count from 1970 by the clock of whoever wrote them, else from the start of the recording. `counted`: the
    instrument counted the energy, also where samples are missing.
    """

    seconds: NDArray[np.float64]
    joules: NDArray[np.float64]
    absolute: bool
    counted: bool = False


def read_trace(data: bytes, name: str, options: Mapping[str, Scalar]) -> Trace:
    """The trace in the bytes of a file or of a serial line; its kind is seen from the bytes.

    `options`: "volts" where only a current was recorded, "rate" in samples per second where there are no times.
    Raises `InvalidInput`, naming `name`.
    """
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{name}: larger than 2 GiB: record fewer samples per second")
    if data[:1] == bytes([EEMBC_MARK]):
        return read_eembc(data, name)
    lines = data.decode("utf-8", errors="replace").splitlines()
    if any(LPM01A.match(line) for line in lines[:50]):
        return read_lpm01a(lines, name, options)
    return read_csv(lines, name, options)


def read_eembc(data: bytes, name: str) -> Trace:
    """Sample i is the energy of the time from i / rate to (i + 1) / rate. A last sample that is cut off is left out."""
    (rate,) = struct.unpack_from("<f", data, 1) if len(data) >= EEMBC_HEAD else (0.0,)
    if not (math.isfinite(rate) and rate > 0):
        raise InvalidInput(f"{name}: an energy recording of EEMBC's runner with a sample rate of {rate}")
    whole = len(data) - (len(data) - EEMBC_HEAD) % 4
    parts = np.frombuffer(data[EEMBC_HEAD:whole], "<f4").astype(np.float64) * 1e-6
    return check_trace(np.arange(len(parts) + 1) / rate, np.concatenate([[0.0], np.cumsum(parts)]), name)


def read_lpm01a(lines: Sequence[str], name: str, options: Mapping[str, Scalar]) -> Trace:
    """Currents at a fixed rate; lines of another form (time stamps, messages) are left out."""
    rate, volts = (_positive(options, key, name) for key in ("rate", "volts"))
    found = [match for line in lines if (match := LPM01A.match(line))]
    watts = np.array([int(match[1]) * 10.0 ** int(match[2]) * volts for match in found])
    seconds = np.arange(len(watts)) / rate
    return check_trace(seconds, integrate(seconds, watts), name)


def read_csv(lines: Sequence[str], name: str, options: Mapping[str, Scalar]) -> Trace:
    """The columns are found by their names. An energy that the instrument counted itself is taken before power or current.

    A power of Joulescope's statistics is the mean of the time before its row: the trapezoid rule misplaces half a row.
    """
    timed = [number for number, line in enumerate(lines) if "time" in line.lower()]
    if not timed:
        raise InvalidInput(f"{name}: no heading with a time column: export it as CSV with its heading")
    whole = (number for number in timed if any(word in lines[number].lower() for word in QUANTITIES))
    start = next(whole, timed[0])  # notes before the heading may say a time too
    separator = max(";\t,", key=lines[start].count)
    heading, *rows = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=separator)
    columns = [HEADING.match(cell) for cell in heading]
    found = {
        key: (number, _scale(match["unit"] or _find_bare_unit(match["name"], unit), unit, name))
        for key, unit in (("time", "s"), ("power", "W"), ("energy", "J"), ("current", "A"), ("voltage", "V"))
        for number, match in reversed(list(enumerate(columns)))
        if match and key in match["name"].lower().replace("timestamp", "time").replace("volt ", "voltage ")
    }
    rows = [row for row in rows if len(row) >= len(heading)]
    if wide := next((row for row in rows if any(map(str.strip, row[len(heading) :]))), None):
        raise InvalidInput(
            f"{name}: {len(wide)} cells in the row {separator.join(wide)[:80]!r}, its heading has {len(heading)}: decimals "
            "need a point, not a comma"
        )
    seconds = _times([row[found["time"][0]] for row in rows], found["time"][1], name)
    values = {
        key: _floats([row[column] for row in rows], name) * scale
        for key, (column, scale) in found.items()
        if key != "time"
    }
    counted = "energy" in values and _counts(values["energy"])
    if counted:
        joules = values["energy"] - values["energy"][:1]
    elif "power" in values:
        joules = integrate(seconds, values["power"])
    elif "current" in values:
        volts = values["voltage"] if "voltage" in values else _positive(options, "volts", name)
        joules = integrate(seconds, values["current"] * volts)
    elif "energy" in values:
        raise InvalidInput(
            f"{name}: its energy does not count up from the start: export a power or a current beside it"
        )
    else:
        raise InvalidInput(f"{name}: no column power, energy or current (columns: {', '.join(heading)})")
    return replace(check_trace(seconds, joules, name), counted=counted)


def _counts(joules: NDArray[np.float64]) -> bool:
    """Whether an energy counts up from the start, as a sum does and the energy of each sample does not."""
    return len(joules) < 2 or bool((np.diff(joules) >= 0).all() and joules[-1] > joules[0])


def integrate(seconds: NDArray[np.float64], watts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joules since the first sample, by the trapezoid rule."""
    parts = (watts[1:] + watts[:-1]) / 2 * np.diff(seconds)
    return np.concatenate([[0.0], np.cumsum(parts)]) if len(watts) else np.zeros(0)


def check_trace(seconds: NDArray[np.float64], joules: NDArray[np.float64], name: str) -> Trace:
    """The trace. Raises `InvalidInput` for fewer than 2 samples, times that do not rise, a figure that is not finite, or an
    energy below 0."""
    if len(seconds) < 2:
        raise InvalidInput(f"{name}: {len(seconds)} samples: at least 2 are needed")
    if not (np.isfinite(seconds).all() and np.isfinite(joules).all()):
        raise InvalidInput(f"{name}: a sample is not a finite number")
    if (np.diff(seconds) <= 0).any():
        raise InvalidInput(f"{name}: the times do not rise at sample {int(np.argmax(np.diff(seconds) <= 0)) + 2}")
    if joules[-1] < joules[0]:
        raise InvalidInput(f"{name}: more power is negative than positive: swap the meter's leads, or turn the sign")
    return Trace(seconds=seconds, joules=joules, absolute=bool(seconds[0] > YEAR_2001_S))


def _times(texts: Sequence[str], scale: float, name: str) -> NDArray[np.float64]:
    if not texts or "-" not in texts[0][1:].lower().replace("e-", ""):
        return _floats(texts, name) * scale
    try:
        return np.array([datetime.fromisoformat(text.strip()).timestamp() for text in texts])
    except ValueError as error:
        raise InvalidInput(f"{name}: a time that is neither a number nor a date ({error})") from error


def _floats(texts: Sequence[str], name: str) -> NDArray[np.float64]:
    try:
        return np.array([float(text) for text in texts])
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}; decimals need a point") from error


def _find_bare_unit(name: str, base: str) -> str:
    """The unit at the end of a column's name, `base` where it has none: `current_ma` is in mA."""
    found = BARE_UNIT.search(name)
    return found[1].lower() + base if found and found[2].upper() == base.upper() else base


def _scale(unit: str, base: str, name: str) -> float:
    if not unit.endswith(base) or unit[: -len(base)] not in SCALES:
        raise InvalidInput(f"{name}: unit {unit!r} of a column in {base}: known are {', '.join(SCALES)} before {base}")
    return SCALES[unit[: -len(base)]]


def _positive(options: Mapping[str, Scalar], key: str, name: str) -> float:
    value = options.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise InvalidInput(f"{name}: it does not say its {key}: set {key} = NUMBER in [meter_options.external]")
