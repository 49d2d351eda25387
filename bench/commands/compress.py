"""`pressbench compress`: writes one compressed model, with its cost, and judges it as `run` does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.cache import check_writable
from bench.commands.temporary import owned_temporary_files
from bench.compress.coding.weights_file import coded_file
from bench.compress.notes import BATCH
from bench.compress.program import find_program
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, check_seed
from bench.config.target import BackendChoice, Target
from bench.cost.show import cost_json
from bench.data.datasets import Dataset, load_data
from bench.errors import InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.inputs.of_file import find_batch
from bench.line.findings import describe_file
from bench.line.judged.assess import assess, count_changed
from bench.line.judged.baseline import as_reference, find_baseline_error, find_chance
from bench.line.judged.distance import find_far, match_outputs, measure_own_spread
from bench.line.judged.evaluation import Evaluation, keep_clean, predict_reference
from bench.line.judged.notes import describe_noise, describe_uncompared, explain_chance, explain_missing_accuracy
from bench.line.measure import Findings, Outputs, measure_artifact
from bench.line.options import LOCAL, fit_recipe, read_options
from bench.line.own_models import NOTHING_SAID, InputOptions, check_fit, choose_calibration, describe_inputs
from bench.line.prepare import Prepared, Setting, count_cost, prepare
from bench.line.wording import title_of, users_file_named
from bench.models.catalogue import is_reference
from bench.models.layouts import describe_layout, lay_out
from bench.models.registry import names_reference, resolve
from bench.models.training.trained_networks import describe_weights
from bench.paths import written
from bench.records import Quality
from bench.report.names import describe_loss
from bench.stats import accuracy_of, drop_interval, score_drop_interval, score_interval
from bench.tasks.base import Task
from bench.tasks.builtin import CLASSIFICATION
from bench.tasks.own import find_task
from bench.types import Artifact, Compressed, Conditions, Json, Model, Progress, Recipe

QUICK = Measure(launches=1, time_s=0.1, warmup_s=0.1, profile_runs=0)
"""Enough to see the outputs; nothing is timed."""
DEFAULT_DATA = "digits"
"""What a reference network is trained on where no data set is named. A user's model has no default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the outputs of a compressed file say. `untrusted`: why it must not be believed; `notes`: what else to know."""

    quality: Quality
    no_accuracy: str
    untrusted: tuple[str, ...]
    notes: tuple[str, ...]


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
    task: str | None = None,
    backend: str,
    options: Sequence[str] = (),
    seed: int,
    cache: Path,
    progress: Progress,
    said: InputOptions = NOTHING_SAID,
) -> dict[str, Json]:
    """Writes the deployable file to `out`; returns its cost, and how it answers in the runtime that made it.

    `dataset`: None for the default, "" for none. `coded`: where to write the coded weights too. `options`: of the backend, KEY=VALUE.
    `said`: of the inputs. The answer has `untrusted` where outputs are not those of the network, or nothing speaks for its ranges.
    """
    check_seed(seed, "--seed")
    data = _load_data(model, dataset, data_root, find_task(task or CLASSIFICATION.text), cache)
    checkpoint = Path(weights) if weights else None
    named = resolve(model, data, input_shape=input_shape or None, weights=checkpoint, train=train)
    found = lay_out(describe_inputs([find_program(named, cache)], said, dataset or "")[0], data, seed)
    _check_places({"--out": out, "--coded": coded}, {"--model": found.brought, "--weights": checkpoint})
    _check_model(found, data if dataset else None, seed, train=train)
    choice = BackendChoice(name=backend, options=read_options(options))
    steps, chosen = fit_recipe(parse_recipe("asked", recipe), choice, LOCAL)
    check_writable(cache)
    with owned_temporary_files() as folder, users_file_named(cache, title_of(found)):
        setting = Setting(
            target=Target(name="this machine", backend=(choice,)),
            cache=cache,
            folder=folder,
            progress=progress,
            measure=QUICK,
            seed=seed,
            data=data,
            data_asked=dataset is not None,
            calibrate=choose_calibration(calibrate or "", said.file(), [steps]),
            input_data=said.file(),
        )
        asked = {**_recipe_json(steps, chosen), **_data_json(found, data, asked=setting.data_asked)}
        return {"file": str(out), "model": found.name, **asked, **_write(found, steps, out, coded, setting)}


def _data_json(model: Model, data: Dataset | None, *, asked: bool) -> dict[str, Json]:
    """What judges, and how the samples were taken where the data set says so."""
    notes = {"data_notes": "; ".join(data.notes)} if data and data.notes else {}
    return {"dataset": _describe_data(model, data, asked=asked), **notes}


def _recipe_json(steps: Recipe, chosen: str) -> dict[str, Json]:
    """The recipe as it is applied. `chosen`: what it left to the backend, in words."""
    return {"recipe": steps.text, **({"widths": chosen} if chosen else {})}


def _load_data(model: str, dataset: str | None, root: str | None, task: Task, cache: Path) -> Dataset | None:
    name = (DEFAULT_DATA if names_reference(model) else "") if dataset is None else dataset
    return load_data(name, Path(root) if root else None, task=task, cache=cache) if name else None


def _check_places(written_to: Mapping[str, Path | None], read_from: Mapping[str, Path | None]) -> None:
    """Raises `InvalidInput` for a file to write that is also read, or written twice: the first content would be lost."""
    seen: dict[Path, str] = {}
    for option, place in {**read_from, **written_to}.items():
        if place is not None and (first := seen.setdefault(place.resolve(), option)) != option:
            raise InvalidInput(f"{option} {place}: it is the file of {first} too, which would be lost: name another")


def _check_model(model: Model, named: Dataset | None, seed: int, *, train: bool) -> None:
    """Raises `InvalidInput` where --train means nothing, or the data set that the user named does not fit."""
    if train and not model.train:
        raise InvalidInput(f"--train trains the network of package.module:function, not {model.name}: leave it out")
    if named:
        check_fit(model, named, seed)


def _write(model: Model, steps: Recipe, out: Path, coded: Path | None, setting: Setting) -> dict[str, Json]:
    """Makes, runs and judges the file, then writes it, garbage too: what is wrong with it stands in the answer."""
    (choice,) = setting.target.backend
    prepared = prepare(model, steps, choice, Conditions(batch=find_batch(model)), setting)
    if out.suffix != prepared.artifact.path.suffix:
        raise InvalidInput(f"--out {out}: backend {choice.title} writes {prepared.artifact.path.suffix} files")
    if files := prepared.artifact.facts.get("data_files"):
        raise Unsupported(
            f"{title_of(model)}: its weights lie beside it ({', '.join(files)}), and compress writes one file"
        )
    weights_file = coded_file(prepared.source) if coded else None
    judged = _judge(model, steps, prepared, setting)
    free = prepared.backend.free_batch(prepared.artifact, prepared.source, setting.folder)
    if free:
        prepared = replace(prepared, artifact=_as_written(prepared, free))
    cost = count_cost(prepared, setting)
    _copy(prepared.artifact.path, out, "--out")
    if coded and weights_file:
        _copy(weights_file, coded, "--coded")
    return {
        **_origin_json(model, prepared.source, setting),
        "judged_on": prepared.evaluation.source,
        "batch": _describe_batch(prepared.source, free=free is not None),
        **({"untrusted": "; ".join(judged.untrusted)} if judged.untrusted else {}),
        **({"note": "; ".join(notes)} if (notes := (*judged.notes, *describe_file(prepared))) else {}),
        **_quality_json(judged.quality, judged.no_accuracy),
        **cost_json(cost),
        "entropy_bytes": cost.entropy_bytes,
    }


def _as_written(prepared: Prepared, free: Path) -> Artifact:
    """The artifact whose file is the one with a free batch, and grew if that one did."""
    artifact, before = prepared.artifact, prepared.source.files["onnx"].stat().st_size
    grew = f"{before} to {free.stat().st_size} bytes" if free.stat().st_size > before else ""
    told = {"file_grew": grew} if "file_grew" in artifact.facts else {}
    return replace(artifact, path=free, facts={**artifact.facts, **told})


def _judge(model: Model, steps: Recipe, prepared: Prepared, setting: Setting) -> Judged:
    """The outputs against the labels and against the uncompressed network, as a cell of `run` is judged."""
    ran = _run_once(prepared)
    outputs = ran.outputs
    assert outputs is not None
    evaluation = _add_reference(model, prepared.evaluation, setting)
    unjudged = ""
    if steps.steps and (evaluation.reference is None or any(measure_own_spread(outputs))):
        evaluation, unjudged = _add_baseline(model, evaluation, setting)
    quality = assess(outputs, evaluation)
    lost, gained = count_changed(outputs, evaluation.reference or (), evaluation)
    quality = replace(quality, lost=lost, gained=gained)
    references = match_outputs(outputs, evaluation.reference or ())
    wrong = "" if steps.steps else find_baseline_error(quality, evaluation)
    chance = find_chance(model, as_reference(quality), evaluation)
    guesses = explain_chance(quality.accuracy, quality.reference_accuracy, evaluation)
    notes = (
        f"the uncompressed network {chance}" if chance else "",
        describe_layout(model),
        *describe_noise(quality),
        *describe_uncompared(quality, evaluation),
        guesses,
        *ran.notes,
        unjudged if quality.accuracy is None else "",
        *evaluation.notes,
    )
    untrusted = (*prepared.source.distrust, *ran.distrust, wrong, *find_far(quality.outputs, references))
    return Judged(
        quality=quality,
        no_accuracy=explain_missing_accuracy(outputs, evaluation),
        untrusted=tuple(dict.fromkeys(filter(None, untrusted))),
        notes=tuple(filter(None, notes)),
    )


def _origin_json(model: Model, source: Compressed, setting: Setting) -> dict[str, Json]:
    """Where weights and ranges come from."""
    calibration = {"calibration": source.calibrated_on} if source.calibrated_on else {}
    return {"weights_from": describe_weights(model, setting.data, setting.seed), **calibration}


def _describe_data(model: Model, data: Dataset | None, *, asked: bool) -> str:
    if data is None:
        return "none" if asked or is_reference(model) else "none (name one with --dataset)"
    return data.name if asked else f"{data.name} (the default of {model.name})"


def _describe_batch(source: Compressed, *, free: bool) -> str:
    """Whether the written file takes any number of inputs at once, and why not."""
    if free:
        return "free"
    sizes = [spec.shape[spec.axis] for spec in source.inputs if spec.axis is not None]
    if BATCH in source.notes:
        return str(source.notes[BATCH])
    if not sizes:
        return "none: every size is fixed, as in the network"
    if sizes[0] > 0:
        return f"fixed at {sizes[0]}, as in the network"
    return "fixed at 1: the file of this backend cannot keep the free batch of the network"


def _quality_json(quality: Quality, no_accuracy: str) -> dict[str, Json]:
    return {
        **_accuracy_json(quality),
        **_score_json(quality),
        "test_samples": quality.labelled or None,
        "top1_agreement": quality.top1_agreement,
        "output_max_abs_err": quality.output_max_abs_err,
        "missing": {"accuracy": no_accuracy} if no_accuracy and quality.score is None else {},
    }


def _accuracy_json(quality: Quality) -> dict[str, Json]:
    """The accuracy with its interval, and what is lost of the reference's on the same samples."""
    found = accuracy_of(quality)
    named: dict[str, Json] = {"accuracy": quality.accuracy, "reference_accuracy": quality.reference_accuracy}
    if found and found.low is not None:
        named["accuracy_interval"] = [found.low, found.high]
    if quality.lost is not None and quality.gained is not None and quality.labelled:
        drop = drop_interval(quality.lost, quality.gained, quality.labelled)
        named["accuracy_drop"] = describe_loss(drop)
    return named


def _score_json(quality: Quality) -> dict[str, Json]:
    if quality.score is None:
        return {}
    found, before = score_interval(quality.score, quality.labelled), quality.reference_score
    named: dict[str, Json] = {
        "score_name": quality.score.name,
        "score": found.value,
        "score_interval": None if found.low is None else [found.low, found.high],
    }
    if before is None:
        return named
    drop = score_drop_interval(before, quality.score, quality.labelled)
    return {**named, "reference_score": before.value, "score_drop": describe_loss(drop)}


def _copy(file: Path, place: Path, option: str) -> None:
    with written(place, option):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _run_once(prepared: Prepared) -> Findings:
    if prepared.bench is None:
        name = prepared.backend.name
        raise Unavailable(f"backend {name} runs no inference: choose one that does to see what the file answers")
    return measure_artifact(prepared.bench, prepared.artifact)


def _add_reference(model: Model, evaluation: Evaluation, setting: Setting) -> Evaluation:
    """With the outputs of the uncompressed network, if there are samples and such a network."""
    if not evaluation.inputs or evaluation.drawn:
        return evaluation
    predicted = predict_reference(
        model,
        evaluation.inputs,
        data=setting.data_for(model),
        cache=setting.cache,
        seed=setting.seed,
        progress=setting.progress,
    )
    return replace(evaluation, reference=predicted)


def _add_baseline(model: Model, evaluation: Evaluation, setting: Setting) -> tuple[Evaluation, str]:
    """With what the uncompressed file does in the same backend; and why nothing can be compared, "" if it can."""
    (choice,) = setting.target.backend
    try:
        outputs = _see_outputs(
            prepare(model, Recipe(name="baseline"), choice, Conditions(batch=find_batch(model)), setting)
        )
    except PressbenchError as error:
        return evaluation, f"nothing says whether its outputs are right: the uncompressed file does not run: {error}"
    reference = evaluation.reference or keep_clean(outputs, evaluation)
    return replace(evaluation, reference=reference, own_spread=measure_own_spread(outputs)), ""


def _see_outputs(prepared: Prepared) -> Outputs:
    outputs = _run_once(prepared).outputs
    assert outputs is not None
    return outputs
