"""Target TOML -> Target: what is measured on, by which runtimes and meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from bench.config.strict_toml import STRICT, locate, read_toml, shipped
from bench.errors import InvalidInput
from bench.types import Scalar

PACKAGE = "targets"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice:
    """A backend and its options. `label` is what the column `backend` says (default: the name).

    `optional`: only run when `--backend` or the suite names it.
    """

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
class Budget:
    """What a model may cost on this target; a cell over it says so in its reasons."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    latency_ms: float | None = None
    memory_bytes: int | None = None
    energy_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device. `devices`: variants of it that are conditions of a cell (emulated CPU models).

    `min_clean_share`: below this share of samples that were not preempted a cell is untrusted.
    `pin`: keep a worker on as many CPUs as it has threads (not where a GPU does the work).
    `accuracy_samples`: how many evaluation samples run there (0: all; an emulator is slow).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    description: str = ""
    reach: str = "local"
    backend: tuple[BackendChoice, ...]
    meters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    min_clean_share: float = 0.2
    pin: bool = True
    accuracy_samples: int = 0


def load_target(name: str) -> Target:
    """A shipped target by name, or a .toml file; what cannot be measured on is `InvalidInput`."""
    path = locate("target", name, PACKAGE)
    target = read_toml(path, Target)
    if not target.backend:
        raise InvalidInput(f"{path}: key 'backend' is empty: add [[backend]] with its name")
    if not 0 <= target.min_clean_share <= 1:
        raise InvalidInput(f"{path}: key 'min_clean_share': a share from 0 to 1, found {target.min_clean_share}")
    return target


def titles(target: Target) -> set[str]:
    """What its backends can be called: their labels and their names."""
    return {choice.title for choice in target.backend} | {choice.name for choice in target.backend}


def targets() -> dict[str, Target]:
    """Every target that ships."""
    return {name: read_toml(path, Target) for name, path in shipped(PACKAGE).items()}
