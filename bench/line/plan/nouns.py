"""What a run asks for and what is planned from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.compress.calibration import FROM_DATA, CalibrateOn
from bench.config.suite import Suite
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset
from bench.types import Conditions, Json, Model, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of `pressbench run`. Stored with the run, so that it can be resumed.

    `recipes`: names of the suite's recipes, or texts of the grammar; empty: all of the suite's.
    `weights` and `input_shape` (without the batch) belong to the one model that is given.
    `data`, `calibrate` and `task` override the suite's; `data_root`: folder of downloaded data sets. `batch`, `threads`,
    `launches`, `time_s` (seconds of samples in each launch) and `smallest_effect` (a share) override the suite's too, where
    they are given.
    `train`: train the networks of the user's functions, as a suite's `train` does. `inputs`, `feedback` (texts of
    `bench.inputs.options`), `signature` and `input_data` (an .npz) say what the one model is fed, as a suite's do.
    `fleet`: a fleet file, whose boards of this `sku` with all these `tags` share the cells; or `each` measures all of them,
    or only `board` does.
    """

    target: str
    suite: str = "default"
    models: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    data: str | None = None
    data_root: str | None = None
    weights: str | None = None
    input_shape: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    launches: int | None = None
    time_s: float | None = None
    smallest_effect: float | None = None
    train: bool = False
    calibrate: str | None = None
    inputs: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    signature: str | None = None
    input_data: str | None = None
    task: str | None = None
    preprocess: str | None = None
    postprocess: str | None = None
    fleet: str | None = None
    sku: str | None = None
    tags: tuple[str, ...] = ()
    each: bool = False
    board: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """One cell to measure: a model under a recipe, by a backend, on the target, in conditions.

    `key` is stable between runs (`cell_key`). `baseline_key`: the cell it is compared with, itself for a baseline.
    `chosen`: what the recipe left to the target, in words; "" if nothing. `data`: None without a data set. `subject`: what
    the model, its data set and the recipe's calibration add to the key.
    """

    model: Model
    recipe: Recipe
    backend: BackendChoice
    conditions: Conditions
    key: str
    baseline_key: str
    chosen: str = ""
    data: Dataset | None = None
    subject: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request with everything it names looked up. `notes`: where the plan differs from the suite, and why.

    `cells`: of a fleet whose boards share them, as its first board would measure them (`bench.line.plan.move`).

    `data`: of the run; a cell of a user's model has none where it would be a shipped suite's (`PlannedCell.data`).
    """

    request: Request
    suite: Suite
    target: Target
    data: Dataset | None
    shifted_data: Dataset | None
    cells: tuple[PlannedCell, ...]
    calibrate: CalibrateOn = FROM_DATA
    input_data: Path | None = None
    notes: tuple[str, ...] = ()
