"""Makes a model ready to be measured: loads the backend, compresses, compiles and sets up the bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.cache import key
from bench.compress.calibration import FROM_DATA, CalibrateOn
from bench.config.suite import Measure
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset
from bench.device.job import Cooling, MeterChoice
from bench.device.stored import Samples, Stored, write_npz
from bench.errors import Unsupported
from bench.formats.qonnx import FORM
from bench.inputs.of_file import find_baked_batch
from bench.inputs.split import split_given
from bench.line.judged.evaluation import NOTHING_TO_EVALUATE, Evaluation, evaluate_drawn, evaluate_given, find_misfit
from bench.line.judged.ranges import describe_ranges
from bench.line.measure import Bench
from bench.line.stages import Stages
from bench.reach.open import Reaches
from bench.types import Artifact, Backend, Compressed, Conditions, Cost, Model, Progress, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What everything that one command prepares has in common.

    `folder`: a temporary folder for the inputs that are sent to workers; of one data set only.
    `data_asked`: the user named the data set, so a model that it does not fit is refused.
    `input_data`: a file of inputs to time and judge with, instead of the data set.
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
    input_data: Path | None = None
    calibrate: CalibrateOn = FROM_DATA
    meters: tuple[MeterChoice, ...] = ()
    stages: Stages = field(default_factory=Stages)
    reaches: Reaches = field(default_factory=Reaches)

    def data_for(self, model: Model) -> Dataset | None:
        """The data set in the layout that the model takes."""
        return self.data.laid_out(model.layouts) if self.data else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A deployed file with everything that running it needs. `bench`: None for a backend that only simulates.

    `batch`: the one that the file is fixed to.
    """

    backend: Backend
    source: Compressed
    artifact: Artifact
    evaluation: Evaluation
    bench: Bench | None
    batch: int = 1


def prepare(model: Model, recipe: Recipe, choice: BackendChoice, conditions: Conditions, setting: Setting) -> Prepared:
    """Compresses and compiles the model, from the cache if the same was made before, and sets up its bench.

    Raises what `bench.plugins.load`, `bench.compress.pipeline.compress`, `bench.line.artifacts.compile_cached` and
    `bench.reach.open.open_reach` raise.
    """
    backend, source, artifact = make_artifact(model, recipe, choice, conditions, setting)
    evaluation, bench = NOTHING_TO_EVALUATE, None
    if backend.session is not None or backend.infers:
        evaluation = _check_ranges(source, _choose_samples(model, source, setting))
    if backend.session is not None:
        bench = _set_up_bench(backend.session, choice, conditions, source, evaluation, setting)
    return Prepared(
        backend=backend, source=source, artifact=artifact, evaluation=evaluation, bench=bench, batch=conditions.batch
    )


def make_artifact(
    model: Model, recipe: Recipe, choice: BackendChoice, conditions: Conditions, setting: Setting
) -> tuple[Backend, Compressed, Artifact]:
    """Compresses and compiles the model: all of `prepare` that the cache keeps. Raises as it does."""
    stages = setting.stages
    backend = stages.load_backend(choice.name)
    source = stages.compress(
        model,
        recipe,
        data=setting.data_for(model),
        cache=setting.cache,
        seed=setting.seed,
        progress=setting.progress,
        data_asked=setting.data_asked,
        calibrate=setting.calibrate,
        batch=conditions.batch,
    )
    check_batch(source, conditions.batch)
    setting.progress("compile", 0.0)
    return backend, source, stages.compile(backend, source, conditions, choice.options, setting.cache)


def count_cost(prepared: Prepared, setting: Setting) -> Cost:
    """Of the deployed file if it can be read, else of the graph it was made from.

    `nonzero_macs` is the graph's before quantization: a weight that rounds to zero saves nothing.
    """
    source, artifact, count = prepared.source, prepared.artifact, setting.stages.count
    readable = artifact.path.suffix in {".onnx", ".tflite"}
    graph = next(source.files[form] for form in ("onnx", FORM, "tflite") if form in source.files)
    deployed, own = find_baked_batch(source.inputs, prepared.batch), find_baked_batch(source.inputs, 1)
    counted = count(artifact.path, deployed) if readable and deployed else count(artifact.path if readable else graph)
    promise = counted
    if source.quant:
        promise = count(graph, own) if own else count(graph)
    return replace(
        counted,
        file_bytes=counted.file_bytes if readable else artifact.path.stat().st_size,
        entropy_bytes=source.entropy_bytes,
        nonzero_macs=promise.nonzero_macs,
        unknown=tuple(sorted({*counted.unknown, *promise.unknown})),
    )


def check_batch(source: Compressed, batch: int) -> None:
    """Raises `Unsupported` for a batch that the network cannot have, naming the one that it has."""
    sizes = [spec.shape[spec.axis] for spec in source.inputs if spec.axis is not None]
    if not sizes and batch != 1:
        raise Unsupported(
            f"{source.model}: every size is fixed and its inputs share no first axis, so it has no batch: measure it "
            "with --batch 1, or mark the batch axis with N (--input NAME=SIZES)"
        )
    for size in sizes:
        if size not in (-1, batch):
            raise Unsupported(f"{source.model}: its batch is fixed to {size}, not {batch}: give --batch {size}")


def _choose_samples(model: Model, source: Compressed, setting: Setting) -> Evaluation:
    """The user's own inputs, else the data set; drawn inputs, without an accuracy, where neither fits."""
    state = [name for _, name in source.feedback]
    if setting.input_data is not None:
        given = split_given(
            setting.input_data,
            source.inputs,
            seed=setting.seed,
            calibrates=setting.calibrate.given is not None,
            state=state,
        )
        return evaluate_given(setting.input_data, given, setting.target.accuracy_samples)
    data, other = setting.data_for(model), setting.shifted_data
    found = setting.stages.make_evaluation(
        data,
        other.laid_out(model.layouts) if other else None,
        shifts=setting.shifts,
        seed=setting.seed,
        limit=setting.target.accuracy_samples,
        folder=setting.folder,
        unfit=find_misfit(source, data),
    )
    return found if found.inputs else evaluate_drawn(source.inputs, setting.seed, state, found.unfit)


def _check_ranges(source: Compressed, evaluation: Evaluation) -> Evaluation:
    """With a note where samples do not fit the quantized inputs of a .tflite file."""
    if "tflite" not in source.files or evaluation.drawn:
        return evaluation
    said = describe_ranges(source.files["tflite"], source.inputs, evaluation.clean_inputs)
    return replace(evaluation, notes=(*evaluation.notes, *said))


def _set_up_bench(
    session: str,
    choice: BackendChoice,
    conditions: Conditions,
    source: Compressed,
    evaluation: Evaluation,
    setting: Setting,
) -> Bench:
    """A fed back input begins with its first sample in every batch that is timed."""
    name = key(source=evaluation.source, inputs=[[*spec.shape, spec.dtype] for spec in source.inputs])[:12]
    first = [array[: conditions.batch] for array in evaluation.inputs]
    batch = [array[np.arange(conditions.batch) % len(array)] for array in first]
    return Bench(
        reach=setting.reaches.find(setting.target, conditions.device),
        session=session,
        conditions=conditions,
        measure=setting.measure,
        options=choice.options,
        meters=setting.meters,
        feed=_write_once(setting.folder / f"feed-{name}-{conditions.batch}.npz", batch),
        evaluate=_store(setting.folder / f"evaluate-{name}.npz", evaluation.inputs),
        inputs=source.inputs,
        output_axes=source.outputs,
        feedback=source.feedback,
        seed=setting.seed,
        pin=setting.target.pin,
        cooling=Cooling(limit_s=setting.target.cool_down_s, ceiling_c=setting.target.ceiling_c),
        settings=setting.target.settings.as_job(),
    )


def _store(path: Path, arrays: Sequence[Samples]) -> Path:
    """The file that the arrays are in; `path`, where they are in memory."""
    stored = [array.file for array in arrays if isinstance(array, Stored)]
    return stored[0] if stored else _write_once(path, [array for array in arrays if not isinstance(array, Stored)])


def _write_once(path: Path, arrays: Sequence[np.ndarray]) -> Path:
    if not path.exists():
        write_npz(path, {str(place): array for place, array in enumerate(arrays)})
    return path
