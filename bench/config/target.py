"""Target TOML -> Target: what is measured on, by which runtimes and meters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from bench.config.strict_toml import STRICT, check_names, locate, read_toml, shipped
from bench.device.job import Settings
from bench.errors import InvalidInput, unknown
from bench.plugins import available
from bench.types import Scalar

PACKAGE = "targets"
OWN_KEYS = dict.fromkeys(("host", "python", "folder", "root", "ssh_config"), "ssh") | dict.fromkeys(
    ("serial", "benchmark_model"), "adb"
)
"""Key -> the one reach whose targets have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice:
    """A backend and its options. `label`: its name in the column `backend` (default: `name`). `optional`: runs only
    if `--backend` or the suite names it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    label: str = ""
    optional: bool = False
    options: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or the name."""
        return self.label or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChoice:
    """What is set on the device while a process measures: as `bench.device.job.Settings`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    nvpmodel: int | None = None
    governor: str = ""
    jetson_clocks: bool = False

    def as_job(self) -> Settings:
        """As a job names them."""
        return Settings(**asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a model may cost on this target; the column `budget` says whether it does. MB: 10^6 bytes, kB: 10^3."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    file_kb: float | None = None
    lut: float | None = None
    accuracy_drop_pp: float | None = None
    score_drop: float | None = None

    def limits(self) -> dict[str, float]:
        """Only the limits that are set."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device.

    `devices`: CPUs of an emulated target or boards of a fleet, each measured as a condition of its own. `min_clean_share`: a cell
    is untrusted if less than this share of its samples ran without preemption. `pin`: keep a worker on as many CPUs as
    it has threads; false where a GPU does the work. `meter_options`: by the meter's name.
    `cool_down_s`: before each launch and comparison, wait up to so long until the hottest zone is steady; 0: do not wait. `ceiling_c`:
    and until it is at most that hot. `settings`: what is set on the device while a process measures, and restored.
    `accuracy_samples`: how many test samples run there, drawn with the suite's seed; 0: all.

    Only of a board (reach "ssh"): `host`: user@host, or a host of the user's ssh configuration; `python`: its Python,
    `folder`: where it keeps what is sent, `root`: of its /proc and /sys, `ssh_config`: a file instead of the user's.
    Only of a phone (reach "adb"): `serial`: as `adb devices` lists it; `benchmark_model`: the user's copy of LiteRT's
    benchmark binary for it, a path on this machine.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    description: str = ""
    reach: str = "local"
    backend: tuple[BackendChoice, ...]
    meters: tuple[str, ...] = ()
    meter_options: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    min_clean_share: float = 0.2
    cool_down_s: float = 0.0
    ceiling_c: float | None = None
    settings: SettingsChoice = field(default_factory=SettingsChoice)
    pin: bool = True
    accuracy_samples: int = 0
    host: str = ""
    python: str = "python3"
    folder: str = "~/.cache/pressbench-board"
    root: str = "/"
    ssh_config: str = ""
    serial: str = ""
    benchmark_model: str = ""

    @property
    def first_device(self) -> str:
        """The first of its variants; "" where it has none."""
        return self.devices[0] if self.devices else ""


PLAIN = Target(name="", backend=())
"""Every key as it is by default."""


def load_target(name: str) -> Target:
    """A shipped target by name, or a .toml file. Raises `InvalidInput` naming the file and the key."""
    path = locate("target", name, PACKAGE)
    target = read_toml(path, Target)
    if not target.backend:
        raise InvalidInput(f"{path}: key 'backend' is empty: add [[backend]] with its name")
    if not 0 <= target.min_clean_share <= 1:
        raise InvalidInput(f"{path}: key 'min_clean_share': a share from 0 to 1, found {target.min_clean_share}")
    if target.accuracy_samples < 0:
        raise InvalidInput(f"{path}: key 'accuracy_samples': from 0 (all) up, found {target.accuracy_samples}")
    _check_board_keys(target, path)
    for key, limit in target.budget.limits().items():
        if not 0 < limit < math.inf:
            raise InvalidInput(f"{path}: key 'budget.{key}': a number above 0, found {limit}")
    check_names([target.name], f"{path}: key 'name'")
    titles_given = [choice.title for choice in target.backend]
    for key, names in (("backend", titles_given), ("devices", target.devices), ("meters", target.meters)):
        _check_distinct(names, f"{path}: key {key!r}")
    for number, choice in enumerate(target.backend):
        _check_registered("backend", choice.name, f"{path}: key 'backend[{number}].name'")
    _check_meters(target, path)
    _check_cooling(target, path)
    _check_phone(target, path)
    _check_reach_keys(target, path)
    if target.settings.nvpmodel is not None and target.settings.nvpmodel < 0:
        raise InvalidInput(f"{path}: key 'settings.nvpmodel': the number of a mode, found {target.settings.nvpmodel}")
    return target


def _check_cooling(target: Target, path: Path) -> None:
    if not 0 <= target.cool_down_s < math.inf:
        raise InvalidInput(f"{path}: key 'cool_down_s': seconds from 0 (do not wait) up, found {target.cool_down_s}")
    if target.ceiling_c is not None and not (target.cool_down_s > 0 and 0 < target.ceiling_c < math.inf):
        raise InvalidInput(
            f"{path}: key 'ceiling_c': degrees above 0, with the longest wait in 'cool_down_s' (as 300.0), "
            f"found {target.ceiling_c} and {target.cool_down_s}"
        )


def _check_meters(target: Target, path: Path) -> None:
    for meter in target.meters:
        _check_registered("meter", meter, f"{path}: key 'meters'")
    for meter in target.meter_options:
        if meter not in target.meters:
            raise InvalidInput(f"{path}: key 'meter_options.{meter}': add {meter!r} to the key 'meters', or remove it")


def _check_board_keys(target: Target, path: Path) -> None:
    """What only a board has is not ignored elsewhere. Raises `InvalidInput` naming the key."""
    for item in fields(Target):
        if (key := item.name) not in OWN_KEYS:
            continue
        text, reach = getattr(target, key), OWN_KEYS[item.name]
        if text != item.default and target.reach != reach:
            raise InvalidInput(
                f'{path}: key {key!r} is for reach = "{reach}", here it is {target.reach!r}: leave it out'
            )
        if not text.isprintable():
            raise InvalidInput(f"{path}: key {key!r}: {text!r} has a sign that no path or name has")
    for key in ("folder", "root"):
        text = getattr(target, key)
        if not text.startswith(("/", "~")):
            raise InvalidInput(f"{path}: key {key!r}: a path on the board that begins with / or ~, found {text!r}")


def _check_phone(target: Target, path: Path) -> None:
    """What another program measures there cannot be watched by ours. Raises `InvalidInput` naming the key."""
    for key in ("meters", "devices", "cool_down_s", "settings"):
        if target.reach == "adb" and getattr(target, key) != getattr(PLAIN, key):
            raise InvalidInput(
                f"{path}: key {key!r}: on a phone benchmark_model measures by itself, and nothing of ours runs beside it: "
                "leave it out"
            )


def _check_reach_keys(target: Target, path: Path) -> None:
    """What a reach cannot do is not ignored there. Raises `InvalidInput` naming the key."""
    for key in ("settings", "meters", "cool_down_s"):
        if target.reach == "emulated" and getattr(target, key) != getattr(PLAIN, key):
            raise InvalidInput(f"{path}: key {key!r}: {target.reach!r} is not a real device: leave it out")
    if target.devices and target.reach in ("local", "ssh"):
        raise InvalidInput(
            f"{path}: key 'devices' is for reach = \"emulated\": by {target.reach!r} one device is reached, and each name would "
            "measure it again: leave it out; several boards are a fleet"
        )


def _check_registered(kind: str, name: str, where: str) -> None:
    if name not in (known := available(kind)):
        raise InvalidInput(f"{where}: {unknown(kind, name, known)}")


def _check_distinct(names: Sequence[str], where: str) -> None:
    """Cells of two entries with one name would replace each other, and a meter would count twice."""
    for name in names:
        if not name:
            raise InvalidInput(f"{where}: a name is empty")
        if names.count(name) > 1:
            label = "; a backend can have a label of its own: label = '...'" if where.endswith("'backend'") else ""
            raise InvalidInput(f"{where}: {name!r} is there twice{label}")


def titles(target: Target) -> set[str]:
    """Labels and names of its backends: all that `--backend` takes."""
    return {choice.title for choice in target.backend} | {choice.name for choice in target.backend}


def targets() -> dict[str, Target]:
    """Every target that ships."""
    return {name: read_toml(path, Target) for name, path in shipped(PACKAGE).items()}
