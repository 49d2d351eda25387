"""One phone through the adb server of this machine; all of adbutils is here.

A shell on the phone sees text of ours, and names that are quoted: files there are named by the SHA-256 of their content.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import sha256
from bench.errors import BoardLost, CellFailed, DiskFull, InvalidInput, Unavailable, first_line

try:
    import adbutils
except ImportError as error:
    raise Unavailable(f"adbutils cannot be imported: {error}; pip install 'pressbench[adb]'") from error

VARIABLE = "ANDROID_SERIAL"
FOLDER = "/data/local/tmp/pressbench"
SILENCE_S = 30.0
"""Longest wait for one answer of the adb server or the phone."""
KILL_S = 5.0
SPARE_BYTES = 64 << 20
OUTPUT_LIMIT = 4 << 20
STDOUT, STDERR, EXIT = 1, 2, 3
"""Kinds of packets of the protocol `shell,v2`."""
PROPERTIES = {
    "maker": "ro.product.manufacturer",
    "model": "ro.product.model",
    "android": "ro.build.version.release",
    "soc": "ro.soc.model",
    "abis": "ro.product.cpu.abilist",
}
WAYS_IN = {
    "unauthorized": "unlock its screen and allow USB debugging for this computer",
    "offline": "it does not answer: unplug it and plug it in again, or `adb reconnect`",
    "no": "this user may not open its USB device: add it to the group plugdev, or install the udev rules for Android",
    "authorizing": "it has just been plugged in: try again",
}
"""State of `adb devices` that is not `device` -> what helps."""
CLIMATE = (
    "for file in /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp"
    " /sys/class/thermal/cooling_device*/type /sys/class/thermal/cooling_device*/cur_state"
    " /sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"
    ' /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do read -r value < "$file" && echo "$file $value"; done'
    " 2>/dev/null; true"
)
CLIMATE_LINE = re.compile(r"/(sys/[A-Za-z0-9_/-]{1,200}) (.{1,100})")
ERRORS = (adbutils.AdbError, OSError, EOFError, ValueError, AssertionError, IndexError, subprocess.SubprocessError)
"""What adbutils raises when the server or the phone goes away or talks nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command on the phone ended, and what it printed; `out`: on standard output only, without the linker's warnings."""

    code: int
    text: str
    out: str


class Phone:
    """A phone that is connected. Every call raises `BoardLost` when it goes away."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.serial = str(device.serial)

    def read_properties(self) -> dict[str, str]:
        """Maker, model, Android's version, the chip and the kinds of program it runs."""
        asked = "; ".join(f"getprop {name}" for name in PROPERTIES.values())
        lines = [line.strip() for line in self.run(asked).out.splitlines()]
        return dict(zip(PROPERTIES, [*lines, *[""] * len(PROPERTIES)], strict=False))

    def has_shell(self) -> bool:
        """Whether its shell says how a program ended: since Android 7."""
        with self._watched():
            return "shell_v2" in self._device.get_features().split(",")

    def run(self, command: str, limit_s: float = SILENCE_S, said: bytearray | None = None) -> Ran:
        """Runs a command in the phone's shell. `said`: takes what it prints as it comes, whatever this raises.

        Raises `TimedOut` if it does not end in time, `CellFailed` if it prints without end.
        """
        end, said, out = time.monotonic() + limit_s, bytearray() if said is None else said, bytearray()
        with self._watched(), self._device.open_transport(timeout=SILENCE_S) as connection:
            connection.send_command(f"shell,v2:{command}")
            connection.check_okay()
            while (left := end - time.monotonic()) > 0:
                connection.conn.settimeout(left)
                try:
                    head = connection.read_exact(5)
                except adbutils.AdbTimeout:
                    break
                size = int.from_bytes(head[1:5], "little")
                if len(said) + size > OUTPUT_LIMIT:
                    raise CellFailed(f"{self.serial}: a program there printed more than {OUTPUT_LIMIT >> 20} MiB")
                data = connection.read_exact(size)
                if head[0] == EXIT:
                    return Ran(code=data[0], text=said.decode("utf-8", "replace"), out=out.decode("utf-8", "replace"))
                if head[0] in (STDOUT, STDERR):
                    said += data
                if head[0] == STDOUT:
                    out += data
        raise TimedOut(f"{self.serial}: a program there did not end within {limit_s:.0f} s")

    def check(self, *words: str) -> str:
        """Runs a program with its arguments quoted; what it answers. Raises `Unavailable` if it fails."""
        ran = self.run(shlex.join(words))
        if ran.code:
            raise Unavailable(f"{self.serial}: {words[0]} failed there: {ran.text.strip()[-200:] or ran.code}")
        return ran.out

    def send(self, path: Path, suffix: str = "") -> str:
        """Has a file on the phone, by its content; where. Sends only what is missing, and checks what arrived.

        Raises `DiskFull`, `Unavailable` where the folder cannot be written.
        """
        name, size = sha256(path), path.stat().st_size
        place = f"{FOLDER}/{name}{suffix}"
        with self._watched():
            if self._device.sync.stat(place).size == size:
                return place
        self.check("mkdir", "-p", FOLDER)
        self._check_space(size)
        part = f"{place}.part"
        self._push(path, part, size)
        if self.check("sha256sum", part).partition(" ")[0].strip() != name:
            self.run(shlex.join(["rm", "-f", part]))
            raise CellFailed(f"{self.serial}: a file arrived with another content than was sent")
        self.check("chmod", "755", part)
        self.check("mv", part, place)
        return place

    def _push(self, path: Path, place: str, size: int) -> None:
        try:
            with self._watched():
                self._device.sync.push(path, place, mode=0o755)
        except (Refused, BoardLost) as error:
            free = self.find_free()  # of a phone that is still there
            self.run(shlex.join(["rm", "-f", place]))
            if free is not None and free < SPARE_BYTES:
                raise self._full(free, size) from None
            if isinstance(error, BoardLost):
                raise
            raise Unavailable(f"{self.serial}: {FOLDER} there cannot be written") from None

    def _check_space(self, size: int) -> None:
        """Raises `DiskFull` where the phone says that it has no room for a file."""
        free = self.find_free()
        if free is not None and free < size + SPARE_BYTES:
            raise self._full(free, size)

    def _full(self, free: int, size: int) -> DiskFull:
        return DiskFull(
            f"disk full: {self.serial}: {FOLDER} has {free >> 20} MiB free, {(size + SPARE_BYTES) >> 20} MiB are "
            "needed: free space there (`pressbench targets clean NAME` removes what earlier runs sent)"
        )

    def find_free(self) -> int | None:
        """Free bytes where files are sent; None where the phone does not say."""
        words = self.run(shlex.join(["stat", "-f", "-c", "%a %S", FOLDER.rpartition("/")[0]])).out.split()
        return int(words[0]) * int(words[1]) if len(words) == 2 and all(map(str.isdecimal, words)) else None

    def read_climate_files(self, into: Path) -> None:
        """Copies what the phone shows of heat and clocks into a folder, under the paths that it has there."""
        for line in self.run(CLIMATE).text.splitlines():
            if found := CLIMATE_LINE.fullmatch(line.strip()):
                path = into / found[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{found[2]}\n", encoding="utf-8")

    def kill(self, pid: str) -> None:
        """SIGKILL to a process there, if one is named; a phone that is gone is not waited for."""
        with suppress(CellFailed, Unavailable):
            if pid:
                self.run(shlex.join(["kill", "-9", pid]), KILL_S)

    def clean(self) -> int:
        """Removes what runs sent; how many bytes it was."""
        words = self.run(shlex.join(["du", "-sk", FOLDER])).out.split()
        self.check("rm", "-rf", FOLDER)
        return int(words[0]) * 1024 if words and words[0].isdecimal() else 0

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Raises `BoardLost` for what adbutils raises when the phone goes, `Refused` for what the phone refuses."""
        try:
            yield
        except (CellFailed, Unavailable):
            raise
        except ERRORS as error:
            if type(error) is adbutils.AdbError and str(error) == "FAIL":
                raise Refused from error
            raise BoardLost(
                f"{self.serial} was lost ({first_line(error)[:200]}): when `adb devices` lists it again, run with --resume"
            ) from error


class TimedOut(CellFailed):
    """A command did not end in time."""


class Refused(Exception):  # noqa: N818
    """The phone did not take a file; adbutils drops its reason."""


def find_phone(target: str, named: str, environment: Mapping[str, str]) -> Phone:
    """The phone that the target or ANDROID_SERIAL names, or the only one.

    Raises `InvalidInput` where both name another, `Unavailable` for none, several, and one that lets nothing in.
    """
    asked = environment.get(VARIABLE, "").strip()
    if asked and named and asked != named:
        raise InvalidInput(f"target {target}: its file has serial = {named!r}, {VARIABLE} is {asked!r}: leave one out")
    client = adbutils.AdbClient(socket_timeout=SILENCE_S)
    try:
        listed = [(str(one.serial), str(one.state)) for one in client.list()]
    except ERRORS as error:
        raise Unavailable(
            f"the adb server of this machine does not answer ({first_line(error)[:200]}): `adb start-server`, or install it: "
            "sudo apt install adb"
        ) from error
    phone = Phone(client.device(_choose(target, asked or named, listed)))
    if not phone.has_shell():
        raise Unavailable(f"{phone.serial}: its adb does not say how a program ended: Android 7 or newer is needed")
    return phone


def _choose(target: str, wanted: str, listed: Sequence[tuple[str, str]]) -> str:
    """The serial number. Raises `Unavailable`."""
    states = dict(listed)
    if not states:
        raise Unavailable(
            "no phone: plug one in with USB debugging on (Settings, Developer options); `adb devices` must list it"
        )
    if wanted and wanted not in states:
        raise Unavailable(f"no phone {wanted!r}: `adb devices` lists {', '.join(sorted(states))}")
    if not wanted and len(states) > 1:
        raise Unavailable(
            f"several phones: {', '.join(sorted(states))}: choose one by {VARIABLE}=SERIAL, or write serial = "
            f'"SERIAL" in a target file of your own (target {target})'
        )
    serial = wanted or next(iter(states))
    if states[serial] != "device":
        help_ = WAYS_IN.get(states[serial], "`adb devices` must say `device`")
        raise Unavailable(f"{serial} is {states[serial]!r} for adb: {help_}")
    return serial
