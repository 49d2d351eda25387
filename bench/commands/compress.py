"""`pressbench compress`: writes one compressed model, with its cost and accuracy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from bench.cache import check_writable
from bench.commands.temporary import owned_temporary_files
from bench.compress.calibration import parse_calibrate
from bench.compress.coding.weights_file import coded_file
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, check_seed
from bench.config.target import BackendChoice, Target
from bench.cost.show import cost_json
from bench.data.datasets import Dataset, load_data
from bench.errors import InvalidInput, Unavailable
from bench.line.measure import Outputs, measure_artifact
from bench.line.prepare import Prepared, Setting, count_cost, prepare
from bench.line.quality import Evaluation, as_reference, assess, find_chance, predict_reference
from bench.line.quality_notes import explain_missing_accuracy
from bench.line.wording import title_of, users_file_named
from bench.models.registry import resolve
from bench.models.training.trained_networks import describe_weights
from bench.paths import written
from bench.records import Quality
from bench.types import Compressed, Conditions, Json, Model, Progress, Recipe

QUICK = Measure(launches=1, time_s=0.1, warmup_s=0.1, profile_runs=0)
"""Enough to see the outputs; nothing is timed."""


def compress_one(
    *,
    model: str,
    recipe: str,
    out: Path,
    coded: Path | None,
    weights: str | None,
    train: bool,
    input_shape: tuple[int, ...],
    dataset: str | None,
    data_root: str | None,
    calibrate: str | None,
    backend: str,
    seed: int,
    cache: Path,
    progress: Progress,
) -> dict[str, Json]:
    """Writes the deployable file to `out`; returns its cost, and its accuracy in the runtime that made it.

    `dataset`: None for digits if they fit, "" for none. One that is named must fit the model. `coded`: where to
    write the coded weights too; raises `Unsupported` if there are none. `train` and `calibrate` are as in a
    `bench.line.plan.Request`.
    """
    check_seed(seed, "--seed")
    data = _load_data(dataset, data_root)
    given = Path(weights) if weights else None
    found = resolve(model, data, input_shape=input_shape or None, weights=given, train=train)
    if train and not found.train:
        raise InvalidInput(f"--train trains the network of package.module:function, not {model}: leave it out")
    steps = parse_recipe("asked", recipe)
    check_writable(cache)
    with owned_temporary_files() as folder, users_file_named(cache, title_of(found)):
        setting = Setting(
            target=Target(name="this machine", backend=(BackendChoice(name=backend),)),
            cache=cache,
            folder=folder,
            progress=progress,
            measure=QUICK,
            seed=seed,
            data=data,
            data_asked=dataset is not None,
            calibrate=parse_calibrate(calibrate or ""),
        )
        return {
            "file": str(out),
            "model": found.name,
            "recipe": steps.text,
            **_write(found, steps, out, coded, setting),
        }


def _write(model: Model, steps: Recipe, out: Path, coded: Path | None, setting: Setting) -> dict[str, Json]:
    """Makes, runs and judges the file, then writes it: a file that is there is a file whose outputs were seen."""
    (choice,) = setting.target.backend
    prepared = prepare(model, steps, choice, Conditions(), setting)
    if out.suffix != prepared.artifact.path.suffix:
        raise InvalidInput(f"--out {out}: backend {choice.title} writes {prepared.artifact.path.suffix} files")
    weights_file = coded_file(prepared.source) if coded else None
    outputs = _run_once(prepared)
    evaluation = _add_reference(model, prepared.evaluation, setting)
    assessed = assess(outputs, evaluation)
    cost = count_cost(prepared, setting)
    _copy(prepared.artifact.path, out, "--out")
    if coded and weights_file:
        _copy(weights_file, coded, "--coded")
    return {
        **_origin_json(model, prepared.source, setting, find_chance(model, as_reference(assessed), evaluation)),
        **_quality_json(assessed, explain_missing_accuracy(outputs, evaluation)),
        **cost_json(cost),
        "entropy_bytes": cost.entropy_bytes,
    }


def _origin_json(model: Model, source: Compressed, setting: Setting, at_chance: str) -> dict[str, Json]:
    """Where weights and ranges come from, and what must be said of them."""
    calibration = {"calibration": source.calibrated_on} if source.calibrated_on else {}
    untrusted = {"untrusted": "; ".join(source.distrust)} if source.distrust else {}
    note = {"note": f"the uncompressed network {at_chance}"} if at_chance else {}
    return {"weights_from": describe_weights(model, setting.data, setting.seed), **calibration, **untrusted, **note}


def _load_data(dataset: str | None, root: str | None) -> Dataset | None:
    name = "digits" if dataset is None else dataset
    return load_data(name, Path(root) if root else None) if name else None


def _quality_json(quality: Quality, no_accuracy: str) -> dict[str, Json]:
    return {
        "accuracy": quality.accuracy,
        "reference_accuracy": quality.reference_accuracy,
        "top1_agreement": quality.top1_agreement,
        "missing": {"accuracy": no_accuracy} if no_accuracy else {},
    }


def _copy(file: Path, place: Path, option: str) -> None:
    with written(place, option):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _run_once(prepared: Prepared) -> Outputs:
    if prepared.bench is None:
        name = prepared.backend.name
        raise Unavailable(f"backend {name} runs no inference: choose one that does to see the accuracy")
    outputs = measure_artifact(prepared.bench, prepared.artifact).outputs
    assert outputs is not None
    return outputs


def _add_reference(model: Model, evaluation: Evaluation, setting: Setting) -> Evaluation:
    """With the outputs of the uncompressed network, if there are samples and such a network."""
    if evaluation.x is None:
        return evaluation
    predicted = predict_reference(
        model,
        evaluation.x,
        data=setting.data,
        cache=setting.cache,
        seed=setting.seed,
        progress=setting.progress,
    )
    return replace(evaluation, reference=predicted)
