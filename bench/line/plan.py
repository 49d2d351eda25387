"""Suite + target + what the command line narrows -> the cells of a run, in the order they are measured."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.cache import key as digest_of
from bench.cache import sha256
from bench.compress.calibration import FROM_DATA, CalibrateOn, calibrates
from bench.compress.program import find_program
from bench.compress.recipe import parse_recipe
from bench.config.suite import BASELINE, Suite, check_measure, check_smallest_effect, load_suite
from bench.config.target import BackendChoice, Target, load_target, targets, titles
from bench.cost.probe import probe
from bench.data.datasets import NAMED_SETS, Dataset, load_data
from bench.errors import InvalidInput, Unsupported, unknown
from bench.formats.onnx_file import data_files, fits_one_file, load_onnx, read_onnx
from bench.line.options import fit_recipe
from bench.line.own_models import (
    InputOptions,
    check_fit,
    choose_backends,
    choose_calibration,
    describe_inputs,
    describe_suite_data,
)
from bench.models.factory import load_factory
from bench.models.layouts import describe_layout, lay_out
from bench.models.registry import names_reference, resolve, tell_apart
from bench.paths import cache_folder
from bench.plugins import available
from bench.tasks.own import find_task
from bench.types import Conditions, Json, Model, Recipe

SHARED = "shared:"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """One cell to measure: a model under a recipe, by a backend, on the target, in conditions.

    `key` is stable between runs (`cell_key`). `baseline_key`: the cell it is compared with, itself for a baseline.
    `chosen`: what the recipe left to the target, in words; "" if nothing. `data`: None without a data set.
    """

    model: Model
    recipe: Recipe
    backend: BackendChoice
    conditions: Conditions
    key: str
    baseline_key: str
    chosen: str = ""
    data: Dataset | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request with everything it names looked up. `notes`: where the plan differs from the suite, and why.

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


def make_plan(request: Request, cache: Path | None = None) -> Plan:
    """Raises `InvalidInput` for every name that does not exist, before anything is measured.

    `cache`: where a .pt2 file becomes ONNX; None: the folder that the environment names.
    """
    suite, target = _override(load_suite(request.suite), request), load_target(request.target)
    root = Path(request.data_root) if request.data_root else None
    said = InputOptions(inputs=suite.inputs, feedback=suite.feedback, signature=suite.signature, data=suite.input_data)
    name = "" if said.data else suite.data if request.data is None else request.data
    task = find_task(request.task or suite.task)
    data = load_data(name, root, task=task, cache=cache_folder(os.environ)) if name else None
    shifted = _shifted(suite, data, root)
    given = _data_of_models(request, suite, data)
    found = _models(request, suite, given, cache or cache_folder(os.environ))
    described = describe_inputs(found, said, request.data or "")
    models = [lay_out(model, own, suite.seed) for model, own in zip(described, given, strict=True)]
    turned = [f"{model.name}: {note}" for model in models if (note := describe_layout(model))]
    told = (*_check_data(request, suite, data, models, given), *(data.notes if data else ()), *turned)
    recipes = _recipes(request, suite)
    backends, notes = _backends(request, suite, target)
    chosen = [(backends, "") if request.backends else choose_backends(model, backends, target) for model in models]
    notes += (*(note for _, note in chosen if note), *told)
    input_data = said.file()
    calibrate = choose_calibration(suite.calibrate, input_data, recipes)
    fed = _describe_feed(input_data, calibrate)
    cells = tuple(
        cell
        for model, own_data, (own, _) in zip(models, given, chosen, strict=True)
        for cell in _cells(
            suite, target, [*subject_of(model, own_data), *fed], model, recipes, own, own_data, calibrate
        )
    )
    _check_distinct(cells)
    return Plan(
        request=request,
        suite=suite,
        target=target,
        data=data,
        shifted_data=shifted,
        cells=cells,
        calibrate=calibrate,
        input_data=input_data,
        notes=notes,
    )


def _override(suite: Suite, request: Request) -> Suite:
    """The suite with what the request gives instead. Raises `InvalidInput` naming the option."""
    for option, values in (("--batch", request.batch), ("--threads", request.threads)):
        if values and min(values) < 1:
            raise InvalidInput(f"{option}: a number from 1 up, found {min(values)}")
    measure = suite.measure
    for key in ("preprocess", "postprocess"):
        if (function := getattr(request, key)) is not None:
            measure = replace(measure, **{key: function})
            check_measure(measure, f"--{key}")
    if request.launches is not None:
        measure = replace(measure, launches=request.launches)
    if request.time_s is not None:
        measure = replace(measure, time_s=request.time_s)
    if request.smallest_effect is not None:
        check_smallest_effect(request.smallest_effect, "--smallest-effect")
        measure = replace(measure, smallest_effect=request.smallest_effect)
    check_measure(measure, "--launches or --time")
    return replace(
        suite,
        batch=request.batch or suite.batch,
        threads=request.threads or suite.threads,
        measure=measure,
        calibrate=suite.calibrate if request.calibrate is None else request.calibrate,
        inputs=request.inputs or suite.inputs,
        feedback=request.feedback or suite.feedback,
        signature=suite.signature if request.signature is None else request.signature,
        input_data=suite.input_data if request.input_data is None else request.input_data,
    )


def _describe_feed(input_data: Path | None, calibrate: CalibrateOn) -> list[Json]:
    """What the user's own inputs add to a cell's key: their content, and whether some are kept to calibrate on."""
    if input_data is None:
        return []
    return [f"fed with {_content(input_data)}", *(["half of it kept to calibrate on"] if calibrate.given else [])]


def _shifted(suite: Suite, data: Dataset | None, root: Path | None) -> Dataset | None:
    """The suite's other data set, on which an accuracy of the same network means something."""
    if not suite.shifted_data:
        return None
    where = f"suite {suite.name}: key 'shifted_data' = {suite.shifted_data!r}"
    if data is None:
        raise InvalidInput(f"{where} needs a data set beside it: name one with `data` or --dataset")
    other = load_data(suite.shifted_data, root, task=data.task, cache=cache_folder(os.environ))
    for what, theirs, ours in (
        ("inputs of shape", other.input_shape, data.input_shape),
        ("inputs of type", other.sample[0].dtype, data.sample[0].dtype),
        ("classes:", other.classes, data.classes),
    ):
        if theirs != ours:
            raise InvalidInput(f"{where} has {what} {theirs}, {data.name!r} has {ours}: give one that has the same")
    return other


def _data_of_models(request: Request, suite: Suite, data: Dataset | None) -> list[Dataset | None]:
    """The data set of each model. A shipped suite's is for our networks: for a user's model the user names one."""
    shipped = request.data is None and not request.suite.endswith(".toml")
    return [
        None if shipped and request.models and not names_reference(text) else data
        for text in request.models or suite.models
    ]


def _models(request: Request, suite: Suite, data: Sequence[Dataset | None], cache: Path) -> list[Model]:
    """A user's own function is imported here: one that is not there ends the run before it begins."""
    texts = request.models or suite.models
    if (request.weights or request.input_shape) and len(texts) > 1:
        raise InvalidInput(f"--weights and --input-shape belong to one model: give one --model, not {', '.join(texts)}")
    weights = Path(request.weights) if request.weights else None
    shape = request.input_shape or None
    train = request.train or suite.train
    models = [
        resolve(_path(text, request), own, input_shape=shape, weights=weights, train=train)
        for text, own in zip(texts, data, strict=True)
    ]
    if request.train and not any(model.train for model in models):
        raise InvalidInput(
            f"--train trains networks of package.module:function, and there is none among {', '.join(texts)}: leave "
            "it out (reference networks are trained anyway, and a file keeps its weights)"
        )
    for model in models:
        if model.factory:
            load_factory(model.factory)
    return tell_apart([find_program(model, cache) for model in models])


def _check_data(
    request: Request, suite: Suite, data: Dataset | None, models: Sequence[Model], given: Sequence[Dataset | None]
) -> tuple[str, ...]:
    """Notes on the suite's data set where the user named models. Raises `InvalidInput` if --dataset does not fit."""
    if request.data is None:
        named = zip(models, given, strict=True) if request.models else ()
        return tuple(filter(None, (describe_suite_data(model, data, own, suite.name) for model, own in named)))
    if data is not None:
        for model in models:
            check_fit(model, data, suite.seed)
    return ()


def _path(text: str, request: Request) -> str:
    """`shared:cases/x.tflite` is a file under the data folder: suites name third-party files so."""
    if not text.startswith(SHARED):
        return text
    if not request.data_root:
        raise InvalidInput(f"{text}: set PRESSBENCH_DATA (or --data) to the folder it is in")
    return str(Path(request.data_root) / text.removeprefix(SHARED))


def _recipes(request: Request, suite: Suite) -> list[Recipe]:
    """The baseline first: every other recipe is compared with it."""
    texts = {name: text for name, text in suite.recipes.items() if name != BASELINE}
    if request.recipes:
        texts = {asked: _recipe_text(asked, suite.name, texts) for asked in request.recipes if asked != BASELINE}
    return [parse_recipe(BASELINE, ""), *(parse_recipe(name, text) for name, text in texts.items())]


def _recipe_text(asked: str, suite: str, texts: dict[str, str]) -> str:
    """A name of the suite's, or the grammar's text itself; `InvalidInput` for a word that is neither."""
    if asked in texts:
        return texts[asked]
    steps = available("compressor")
    if not set("(+") & set(asked) and asked.strip() not in steps:
        raise unknown(f"recipe of suite {suite} or step", asked, {BASELINE, *texts, *steps})
    return asked


def _backends(request: Request, suite: Suite, target: Target) -> tuple[list[BackendChoice], tuple[str, ...]]:
    """The choices, and a note if the target has none of the suite's.

    A backend that the user names must exist; one that a suite names is a preference, because a suite knows no targets.
    """
    if request.backends:
        return _named(request.backends, target, titles(target), f"target {target.name}"), ()
    own = [choice for choice in target.backend if not choice.optional]
    if not suite.backends:
        return own, ()
    anywhere = set(available("backend")).union(*map(titles, [target, *targets().values()]))
    found = _named(suite.backends, target, anywhere, f"suite {suite.name}")
    if found:
        return found, ()
    wanted, used = (", ".join(names) for names in (suite.backends, [choice.title for choice in own]))
    return own, (f"target {target.name} has none of the backends of suite {suite.name} ({wanted}): using {used}",)


def _named(asked: Sequence[str], target: Target, known: Collection[str], whose: str) -> list[BackendChoice]:
    for name in asked:
        if name not in known:
            raise unknown(f"backend of {whose}", name, known)
    return [choice for choice in target.backend if choice.title in asked or choice.name in asked]


def _cells(
    suite: Suite,
    target: Target,
    subject: Sequence[Json],
    model: Model,
    recipes: Sequence[Recipe],
    backends: Sequence[BackendChoice],
    data: Dataset | None,
    calibrate: CalibrateOn,
) -> Iterator[PlannedCell]:
    conditions = [
        Conditions(batch=batch, threads=threads, device=device)
        for device in target.devices or ("",)
        for batch in suite.batch
        for threads in suite.threads
    ]
    subjects = [[*subject, *source_of(recipe, data, calibrate)] for recipe in recipes]
    for backend in backends:
        fitted = [fit_recipe(recipe, backend, target.reach) for recipe in recipes]
        for condition in conditions:
            keys = [
                cell_key(suite, target, of_recipe, recipe, backend, condition)
                for (recipe, _), of_recipe in zip(fitted, subjects, strict=True)
            ]
            for (recipe, chosen), key in zip(fitted, keys, strict=True):
                yield PlannedCell(
                    model=model,
                    recipe=recipe,
                    backend=backend,
                    conditions=condition,
                    key=key,
                    baseline_key=keys[0],
                    chosen=chosen,
                    data=data,
                )


def _check_distinct(cells: Sequence[PlannedCell]) -> None:
    """A store keeps one record a key: of two cells that share one, the first's would be lost."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            what = f"model {cell.model.name}, recipe {cell.recipe.name}, backend {cell.backend.title}"
            conditions = f"batch {cell.conditions.batch}, threads {cell.conditions.threads}"
            raise InvalidInput(f"{what}, {conditions} is asked for twice: name each model and each condition once")
        seen.add(cell.key)


def subject_of(model: Model, data: Dataset | None) -> list[Json]:
    """What a model and its data set add to a cell's key: names, and content where a name says too little.

    The same files give the same keys from any folder. A folder counts only if two files have the same name.
    A user's network trained here is another than the one that the user's function makes.
    """
    named = "" if data is None else data.name if data.name in NAMED_SETS and data.task.labels else data.digest
    brought = model.brought or model.weights
    content = _content(brought) if brought else ""
    said = [*map(str, model.inputs), *model.feedback, *([model.signature] if model.signature else [])]
    return [named, model.name, model.input_shape, content, *(["trained here"] if model.train else []), *said]


def source_of(recipe: Recipe, data: Dataset | None, calibrate: CalibrateOn) -> list[Json]:
    """What a recipe that calibrates adds to a cell's key: a file by its content, or random inputs.

    Nothing where the data set is used, and where there is none: random inputs were then used without being asked for.
    """
    if not calibrates(recipe):
        return []
    if calibrate.file is not None:
        return [f"calibrated on {_content(calibrate.file)}"]
    return ["calibrated on random inputs"] if calibrate.random and data is not None else []


def _content(file: Path) -> str:
    """Digest of a model's file or weights, the weights an ONNX file keeps beside it included."""
    try:
        with suppress(Unsupported):  # a model too large for one file: its cells are skipped, the others go on
            if file.suffix in {".onnx", ".tflite"}:
                probe(file)
            if file.suffix == ".onnx" and (beside := data_files(proto := load_onnx(file), file)):
                if not fits_one_file(proto, file):
                    return digest_of(model=sha256(file), data=[[part.name, sha256(part)] for part in beside])
                proto, _ = read_onnx(file)
                return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
        return sha256(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}; make it readable") from None


def cell_key(
    suite: Suite,
    target: Target,
    subject: Sequence[Json],
    recipe: Recipe,
    backend: BackendChoice,
    conditions: Conditions,
) -> str:
    """Digest of everything that the user can name about a cell; stable between runs, so histories join on it.

    `subject` is `subject_of` the model and the data set.
    """
    named = [
        target.name,
        suite.seed,
        list(subject),
        recipe.name,
        recipe.text,
        backend.title,
        dict(backend.options),
        asdict(conditions),
    ]
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:20]
