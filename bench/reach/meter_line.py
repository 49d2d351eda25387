"""Listens to an external meter on a serial line of this host while a worker runs."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput, Unavailable
from bench.formats.power_trace import EEMBC_HEAD, EEMBC_MARK, LPM01A, MOST_BYTES, Trace, read_trace
from bench.types import Scalar

DEFAULT_BAUD = 921_600
POLL_S = 0.1
CHUNK = 1 << 16


class MeterLine:
    """The bytes a meter sent, and when. `trace` puts them on this host's clock."""

    def __init__(self, port: Path, options: Mapping[str, Scalar]) -> None:
        self._port, self._options = port, options
        self._data = bytearray()
        self._arrivals: list[tuple[float, int]] = []
        self._stop = Flag()
        self._descriptor = open_line(port, options.get("baud", DEFAULT_BAUD))
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening and closes the line."""
        self._stop.set()
        self._thread.join()
        os.close(self._descriptor)

    def trace(self) -> Trace:
        """What was recorded, in seconds since 1970. Raises `InvalidInput` for bytes that are not a trace.

        A sample arrives after it was taken, never before: the earliest arrival relative to its time sets the clock.
        """
        data = cut_line(bytes(self._data))
        found = read_trace(data, str(self._port), self._options)
        if found.absolute:
            return found
        at, ends = (np.array(column) for column in zip(*self._arrivals, strict=True))
        counts = np.minimum(count_samples(data, ends), len(found.seconds))
        some = counts > 0
        if not some.any():
            raise InvalidInput(f"{self._port}: no line begins with a digit: its samples cannot be put on a clock")
        late = float((at[some] - found.seconds[counts[some] - 1]).min())
        return replace(found, seconds=found.seconds + late, absolute=True)

    def _listen(self) -> None:
        while not self._stop.is_set() and len(self._data) <= MOST_BYTES:
            ready, _, _ = select.select([self._descriptor], [], [], POLL_S)
            try:
                chunk = os.read(self._descriptor, CHUNK) if ready else b""
            except OSError:  # unplugged: the trace ends here, and the windows after it say so
                return
            if chunk:
                self._data += chunk
                self._arrivals.append((time.time(), len(self._data)))


def cut_line(data: bytes) -> bytes:
    """Without a last line that was received only in part: half a number is another number. EEMBC's recording has no lines."""
    if data[:1] == bytes([EEMBC_MARK]):
        return data
    return data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]


def count_samples(data: bytes, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many samples of a recording were complete after the first `ends[i]` bytes, for each i."""
    if data[0] == EEMBC_MARK:
        return np.where(ends > EEMBC_HEAD + 3, (ends - EEMBC_HEAD) // 4 + 1, 0)
    lines = data.splitlines(keepends=True)
    currents = np.array([bool(LPM01A.match(line.decode("utf-8", errors="replace"))) for line in lines])
    samples = currents if currents.any() else np.array([line[:1].isdigit() for line in lines])
    complete = np.cumsum([len(line) for line in lines])[samples]
    return np.searchsorted(complete, ends, side="right")


def open_line(port: Path, baud: Scalar) -> int:
    """Descriptor of a serial line without echo or translation. Raises `Unavailable` or `InvalidInput`."""
    whole = isinstance(baud, int) and not isinstance(baud, bool) and baud > 0
    speed = getattr(termios, f"B{baud}", None) if whole else None
    if speed is None:
        raise InvalidInput(
            f"meter external: option baud is {baud!r}; it is a speed of this system's serial lines in bits per second, "
            "as 115200 or 921600"
        )
    try:
        descriptor = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except PermissionError as error:
        raise Unavailable(
            f"the serial line {port} may not be opened: add your user to its group (sudo usermod -aG dialout $USER), "
            "then log in again"
        ) from error
    except OSError as error:
        raise Unavailable(f"the serial line {port} cannot be opened ({error}): is the meter plugged in?") from error
    try:
        tty.setraw(descriptor)
        settings = termios.tcgetattr(descriptor)
        settings[4] = settings[5] = speed
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    except termios.error as error:
        os.close(descriptor)
        raise Unavailable(f"{port} is not a serial line ({error})") from error
    return descriptor


@contextmanager
def listening(options: Mapping[str, Scalar]) -> Iterator[MeterLine | Unavailable | None]:
    """The line of the option `port` while the block runs; why it does not open; None without the option."""
    if not options.get("port"):
        yield None
        return
    try:
        line = MeterLine(Path(str(options["port"])), options)
    except Unavailable as error:
        yield error
        return
    try:
        yield line
    finally:
        line.stop()
