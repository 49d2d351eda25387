"""Suite TOML -> Suite: models x recipes x conditions, and how carefully they are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from bench.config.strict_toml import STRICT, locate, read_toml
from bench.device.job import Limits
from bench.errors import InvalidInput

PACKAGE = "bench.suites"
BASELINE = "baseline"
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How carefully. `launches`: fresh processes a cell; `pairs`: fresh processes of ABBA blocks
    against the baseline; the rest as in `bench.device.job.Limits`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    launches: int = 3
    pairs: int = 8
    blocks: int = 40
    width: float = 0.01
    warmup_s: float = 0.5
    time_s: float = 3.0
    max_samples: int = 2000
    profile_runs: int = 20
    energy_s: float = 0.0
    limit_s: float = 300.0

    def limits(self) -> Limits:
        """What the worker needs of it."""
        return Limits(
            warmup_s=self.warmup_s,
            time_s=self.time_s,
            width=self.width,
            max_samples=self.max_samples,
            blocks=self.blocks,
            energy_s=self.energy_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What to measure. `data`: a data set's name or .npz file, "" for none (then no accuracy).

    `recipes`: name -> text of the grammar; the baseline is always there. `backends`: labels or
    names of the backends preferred; the target's own when empty or when it has none of them. `shifts`: also measure accuracy on corrupted
    test data; `shifted_data`: and on this other data set of the same shape and classes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    description: str = ""
    data: str = ""
    models: tuple[str, ...]
    recipes: Mapping[str, str] = field(default_factory=dict)
    batch: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    seed: int = 0
    backends: tuple[str, ...] = ()
    shifts: bool = False
    shifted_data: str = ""
    measure: Measure = field(default_factory=Measure)


LEAST = {"launches": 1, "pairs": 0, "blocks": 1, "max_samples": 1, "limit_s": 1} | dict.fromkeys(
    ("warmup_s", "time_s", "profile_runs", "energy_s"), 0
)
"""The smallest number each of these keys of `Measure` can mean something with."""


def check_seed(seed: int, where: str) -> None:
    """Raises `InvalidInput`, naming `where`, for a seed that NumPy or torch would not take."""
    if not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"{where}: a whole number from 0 to {MAX_SEED}, found {seed}")


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or a .toml file; numbers that cannot be are `InvalidInput`."""
    path = locate("suite", name, PACKAGE)
    suite = read_toml(path, Suite)
    check_seed(suite.seed, f"{path}: key 'seed'")
    for key, values in (("batch", suite.batch), ("threads", suite.threads)):
        if not values or min(values) < 1:
            raise InvalidInput(f"{path}: key {key!r}: a list of numbers from 1 up, found {list(values)}")
    if not suite.models:
        raise InvalidInput(f"{path}: key 'models' is empty")
    if suite.recipes.get(BASELINE, ""):
        raise InvalidInput(
            f"{path}: key 'recipes.{BASELINE}': the baseline has no steps; give this recipe another name"
        )
    _check_measure(suite.measure, str(path))
    return suite


def _check_measure(measure: Measure, path: str) -> None:
    if not 0 < measure.width < 1:
        raise InvalidInput(
            f"{path}: key 'measure.width': a share above 0 and below 1 (0.01 is 1 % each side), found {measure.width}"
        )
    for key, least in LEAST.items():
        if not getattr(measure, key) >= least:
            raise InvalidInput(f"{path}: key 'measure.{key}': from {least} up, found {getattr(measure, key)}")
