"""Raspberry Pi 5: the rails of its power chip, as `vcgencmd pmic_read_adc` prints them.

Lines: `VDD_CORE_A current(7)=1.53500000A` and `VDD_CORE_V volt(15)=0.87300000V`. The 5 V input has a voltage and no
current, so USB devices, hats on the 5 V pins and what the regulators lose are not counted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, final

from bench.device.meters.base import NO_OPTIONS, Condition
from bench.device.meters.sampling import SampledMeter
from bench.errors import Unavailable
from bench.types import Json, Scalar

LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?[0-9.]+)[AV]\s*$", re.MULTILINE)
PERIOD_S = 0.1
LIMIT_S = 5.0
PLACES = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")


@final
class Pmic(SampledMeter):
    """The sum of volts times amperes over every rail that has both."""

    name: ClassVar[str] = "pmic"
    source: ClassVar[str] = "measured:pmic"
    covers: ClassVar[str] = "Raspberry Pi 5: the rails of the power chip; neither USB, hats nor regulator losses"
    min_window_s: ClassVar[float] = 2.0
    tick_s: float = PERIOD_S

    def __init__(self, command: Path) -> None:
        self._command = command
        super().__init__(partial(_watts, command), PERIOD_S)

    @classmethod
    def open(cls, root: Path, options: Mapping[str, Scalar] = NO_OPTIONS) -> Pmic:
        """Raises `Unavailable` where vcgencmd is missing, refused, or knows no power chip."""
        del options
        command = find_vcgencmd(root)
        if command is None:
            raise Unavailable(
                f"no vcgencmd under {root}: only a Raspberry Pi has it (apt install raspi-utils, in older systems "
                "libraspberrypi-bin)"
            )
        _watts(command)
        return cls(command)

    def condition(self) -> Condition:
        """The power of each rail now."""
        try:
            watts: Json = read_rails(self._command)
        except Unavailable as error:
            watts = f"missing: {error}"
        return Condition(notes={"rails_w": watts, "rails_left_out": ["5 V input: USB, hats, regulator losses"]})


def find_vcgencmd(root: Path) -> Path | None:
    """The Raspberry Pi's tool, or None."""
    return next((root / place for place in PLACES if (root / place).is_file()), None)


def ask_vcgencmd(command: Path, *arguments: str) -> str:
    """What vcgencmd prints. Raises `Unavailable` if it fails; names the group where the device is refused."""
    try:
        done = subprocess.run(
            [str(command), *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"vcgencmd cannot be run ({error})") from error
    said = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode or not done.stdout.strip() or "error=" in done.stdout:
        if "vcio" in said or "ermission" in said:
            raise Unavailable(
                "vcgencmd may not open /dev/vcio: add your user to the group video "
                "(sudo usermod -aG video $USER), then log in again"
            )
        raise Unavailable(f"vcgencmd {' '.join(arguments)} fails: {said[:200] or f'exit code {done.returncode}'}")
    return done.stdout


def read_rails(command: Path) -> dict[str, float]:
    """Watts of each rail that has a voltage and a current. Raises `Unavailable` where none has."""
    text = ask_vcgencmd(command, "pmic_read_adc")
    values = {(name, unit): float(value) for name, unit, value in LINE.findall(text)}
    rails = {
        name: amperes * values[name, "V"]
        for (name, unit), amperes in values.items()
        if unit == "A" and (name, "V") in values
    }
    if not rails:
        raise Unavailable("vcgencmd pmic_read_adc names no rail with volts and amperes: a Raspberry Pi 5 does")
    return rails


def _watts(command: Path) -> float:
    return sum(read_rails(command).values())
