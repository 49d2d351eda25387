"""Makes a model ready to be measured: loads the backend, compresses, compiles and sets up the bench."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.compress.calibration import FROM_DATA, CalibrateOn
from bench.config.suite import Measure
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset
from bench.device.job import Cooling, MeterChoice
from bench.line.measure import Bench
from bench.line.quality import NOTHING_TO_EVALUATE, Evaluation, find_misfit
from bench.line.stages import Stages
from bench.reach.open import Reaches
from bench.types import Artifact, Backend, Compressed, Conditions, Cost, Model, Progress, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What everything that one command prepares has in common.

    `folder`: a temporary folder for the inputs that are sent to workers; of one data set only.
    `data_asked`: the user named the data set, so a model that it does not fit is refused.
    `calibrate`: what static quantization takes its ranges from. `meters`: as in `bench.device.job.Job`.
    `reaches`: the command closes them at its end.
    """

    target: Target
    cache: Path
    folder: Path
    progress: Progress
    measure: Measure
    seed: int = 0
    data: Dataset | None = None
    data_asked: bool = False
    shifted_data: Dataset | None = None
    shifts: bool = False
    calibrate: CalibrateOn = FROM_DATA
    meters: tuple[MeterChoice, ...] = ()
    stages: Stages = field(default_factory=Stages)
    reaches: Reaches = field(default_factory=Reaches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A deployed file with everything that running it needs. `bench`: None for a backend that only simulates."""

    backend: Backend
    source: Compressed
    artifact: Artifact
    evaluation: Evaluation
    bench: Bench | None


def prepare(model: Model, recipe: Recipe, choice: BackendChoice, conditions: Conditions, setting: Setting) -> Prepared:
    """Compresses and compiles the model, from the cache if the same was made before, and sets up its bench.

    Raises what `bench.plugins.load`, `bench.compress.pipeline.compress`, `bench.line.artifacts.compile_cached` and
    `bench.reach.open.open_reach` raise.
    """
    stages = setting.stages
    backend = stages.load_backend(choice.name)
    source = stages.compress(
        model,
        recipe,
        data=setting.data,
        cache=setting.cache,
        seed=setting.seed,
        progress=setting.progress,
        data_asked=setting.data_asked,
        calibrate=setting.calibrate,
    )
    setting.progress("compile", 0.0)
    artifact = stages.compile(backend, source, conditions, choice.options, setting.cache)
    evaluation, bench = NOTHING_TO_EVALUATE, None
    if backend.session is not None:
        evaluation = _choose_samples(source, setting)
        bench = _set_up_bench(backend.session, choice, conditions, evaluation, setting)
    return Prepared(backend=backend, source=source, artifact=artifact, evaluation=evaluation, bench=bench)


def count_cost(prepared: Prepared, setting: Setting) -> Cost:
    """Of the deployed file if it can be read, else of the graph it was made from.

    `nonzero_macs` is the graph's before quantization: a weight that rounds to zero saves nothing.
    """
    source, artifact, count = prepared.source, prepared.artifact, setting.stages.count
    readable = artifact.path.suffix in {".onnx", ".tflite"}
    graph = source.files.get("onnx") or source.files["tflite"]
    counted = count(artifact.path if readable else graph)
    promise = count(graph) if source.quant else counted
    return replace(
        counted,
        file_bytes=counted.file_bytes if readable else artifact.path.stat().st_size,
        entropy_bytes=source.entropy_bytes,
        nonzero_macs=promise.nonzero_macs,
        unknown=tuple(sorted({*counted.unknown, *promise.unknown})),
    )


def _choose_samples(source: Compressed, setting: Setting) -> Evaluation:
    """A file whose input is not the data set's is measured on drawn inputs, without an accuracy."""
    return setting.stages.make_evaluation(
        setting.data,
        setting.shifted_data,
        shifts=setting.shifts,
        seed=setting.seed,
        limit=setting.target.accuracy_samples,
        unfit=find_misfit(source, setting.data),
    )


def _set_up_bench(
    session: str, choice: BackendChoice, conditions: Conditions, evaluation: Evaluation, setting: Setting
) -> Bench:
    feed = evaluate = None
    if evaluation.x is not None:
        batch = np.resize(evaluation.x, (conditions.batch, *evaluation.x.shape[1:]))
        feed = _write_once(setting.folder / f"feed-{conditions.batch}.npz", batch)
        evaluate = _write_once(setting.folder / "evaluate.npz", evaluation.x)
    return Bench(
        reach=setting.reaches.find(setting.target, conditions.device),
        session=session,
        conditions=conditions,
        measure=setting.measure,
        options=choice.options,
        meters=setting.meters,
        feed=feed,
        evaluate=evaluate,
        seed=setting.seed,
        pin=setting.target.pin,
        cooling=Cooling(limit_s=setting.target.cool_down_s, ceiling_c=setting.target.ceiling_c),
    )


def _write_once(path: Path, x: np.ndarray) -> Path:
    if not path.exists():
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{"0": x})
    return path
