"""Suite TOML -> Suite: models x recipes x conditions, and how carefully they are measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from bench.config.strict_toml import STRICT, check_names, locate, read_toml
from bench.device.job import Limits
from bench.errors import InvalidInput
from bench.own_code import is_import_path
from bench.records import SMALLEST_EFFECT

PACKAGE = "bench.suites"
BASELINE = "baseline"
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How carefully. `launches`: fresh processes for each cell; `pairs`: fresh processes that alternate runs of the
    baseline and the candidate (ABBA blocks); `profile_runs`: runs for the times of single layers; `sustain_s`: of
    back-to-back inference at the end of the last launch; `smallest_effect`: as of `bench.records:Record`; `limit_s`: seconds
    after which a launch is stopped; `preprocess`, `postprocess`: functions of the user's, `package.module:function`, to
    time around the inference on the device; the rest as in `bench.device.job.Limits`."""

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
    sustain_s: float = 0.0
    limit_s: float = 300.0
    smallest_effect: float = SMALLEST_EFFECT
    preprocess: str = ""
    postprocess: str = ""

    def limits(self) -> Limits:
        """The limits that the worker gets."""
        return Limits(
            warmup_s=self.warmup_s,
            time_s=self.time_s,
            width=self.width,
            max_samples=self.max_samples,
            blocks=self.blocks,
            energy_s=self.energy_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchChoice:
    """Table `[search]`: what `pressbench search` takes from its suite where its options say nothing. The keys are its options;
    `budgets`: as `--budget`, key -> number; `families`, `recipes`, `students`: the texts of `--family`, `--recipe` and `--student`. None or empty: the command's default."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    budgets: Mapping[str, float] = field(default_factory=dict)
    max_drop: float | None = None
    max_error: float | None = None
    minimize: str = ""
    time: str = ""
    then: str | None = None
    families: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    strategy: str = ""
    ranks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What to measure.

    `data`: a data set's name or .npz file; "" for none, then no accuracy is measured. `recipes`: name -> text of
    `bench.config.grammar`; the baseline is always measured too. `backends`: labels or names of the preferred backends;
    the target's own if empty, or if the target has none of them. `shifts`: also measure accuracy on corrupted test
    data. `shifted_data`: also measure accuracy on this data set, of the same shape and classes. `train`: also train the
    networks that users' functions build, on `data`. `calibrate`: what static quantization calibrates on instead of
    `data`: "random", or an .npz of arrays by input name. `inputs`, `feedback` (texts of `bench.inputs.options`),
    `signature` and `input_data` (an .npz, instead of `data`) say what the one model is fed. `task`:
    what the networks are trained for and judged by, as `bench.tasks.own.find_task` reads it. `search`: of
    `pressbench search`; a run does not search. `sku`: run on the boards of this kind of a fleet (`--fleet`), which share the
    cells; with `each`, every one of them measures all.
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
    train: bool = False
    calibrate: str = ""
    inputs: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    signature: str = ""
    input_data: str = ""
    task: str = "classification"
    measure: Measure = field(default_factory=Measure)
    search: SearchChoice = field(default_factory=SearchChoice)
    sku: str = ""
    each: bool = False


SHORTEST_S = 10.0
"""Of a sustained run: with fewer windows nothing shows whether it settled."""
LEAST = {"launches": 1, "pairs": 0, "blocks": 1, "max_samples": 1, "limit_s": 1} | dict.fromkeys(
    ("warmup_s", "time_s", "profile_runs", "energy_s"), 0
)
"""The smallest value of each key of `Measure` but `width` and `smallest_effect`."""


MOST = {"batch": 2**20, "threads": 1024}
"""The largest value of each condition: a runtime that is asked for a million threads stands still."""


def check_condition(key: str, values: Sequence[int], where: str) -> None:
    """Raises `InvalidInput`, naming `where`, for a batch or a number of threads that cannot be measured."""
    for value in values:
        if not 1 <= value <= MOST[key]:
            raise InvalidInput(f"{where}: numbers from 1 to {MOST[key]}, found {value}")


def check_seed(seed: int, where: str) -> None:
    """Raises `InvalidInput`, naming `where`, for a seed that NumPy or torch refuses."""
    if not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"{where}: a whole number from 0 to {MAX_SEED}, found {seed}")


def check_smallest_effect(share: float, where: str) -> None:
    """Raises `InvalidInput`, naming `where`, for a share that cannot be a smallest effect."""
    if not 0 < share < 1:
        raise InvalidInput(f"{where}: a share above 0 and below 1 (0.01 is 1 %), found {share}")


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or a .toml file. Raises `InvalidInput` naming the file and the key."""
    path = locate("suite", name, PACKAGE)
    suite = read_toml(path, Suite)
    check_seed(suite.seed, f"{path}: key 'seed'")
    for key in MOST:
        if not (values := getattr(suite, key)):
            raise InvalidInput(f"{path}: key {key!r} is an empty list; name at least one number")
        check_condition(key, values, f"{path}: key {key!r}")
    for key, names in (("name", [suite.name]), ("recipes", suite.recipes)):
        check_names(names, f"{path}: key {key!r}")
    if not suite.models:
        raise InvalidInput(f"{path}: key 'models' is empty; name at least one model")
    if suite.recipes.get(BASELINE, ""):
        raise InvalidInput(
            f"{path}: key 'recipes.{BASELINE}': the baseline has no steps; give this recipe another name"
        )
    check_measure(suite.measure, str(path))
    return suite


def check_measure(measure: Measure, path: str) -> None:
    """Raises `InvalidInput`, naming `path` and the key, for a number that means nothing."""
    if not 0 < measure.width < 1:
        raise InvalidInput(
            f"{path}: key 'measure.width': a share above 0 and below 1 (0.01 is 1 % each side), found {measure.width}"
        )
    check_smallest_effect(measure.smallest_effect, f"{path}: key 'measure.smallest_effect'")
    if measure.sustain_s and not SHORTEST_S <= measure.sustain_s < math.inf:
        raise InvalidInput(
            f"{path}: key 'measure.sustain_s': 0 (none) or seconds from {SHORTEST_S:g} up, as 300.0, "
            f"found {measure.sustain_s}"
        )
    for key in ("preprocess", "postprocess"):
        if (function := getattr(measure, key)) and not is_import_path(function):
            raise InvalidInput(f"{path}: key 'measure.{key}': {function!r} is not package.module:function")
    for key, least in LEAST.items():
        value = getattr(measure, key)
        if not least <= value < math.inf:
            raise InvalidInput(f"{path}: key 'measure.{key}': a number from {least} up, found {value}")
