"""The models, data sets, recipes and backends that a request and its suite name."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bench.compress.program import find_program
from bench.compress.recipe import parse_recipe
from bench.config.fleet import Board, load_fleet, spread_over
from bench.config.suite import BASELINE, MOST, Suite, check_condition, check_measure, check_smallest_effect
from bench.config.target import BackendChoice, Target, load_target, targets, titles
from bench.data.datasets import Dataset, load_data
from bench.errors import InvalidInput, unknown
from bench.line.own_models import (
    check_fit,
    describe_suite_data,
)
from bench.line.plan.nouns import Request
from bench.models.factory import load_factory
from bench.models.registry import names_reference, resolve, tell_apart
from bench.paths import cache_folder
from bench.plugins import available
from bench.types import Model, Recipe

SHARED = "shared:"


def find_boards(request: Request) -> tuple[Board, ...]:
    """The boards that a request of a fleet may use; () for a request of one target."""
    if request.fleet is None:
        return ()
    boards = load_fleet(Path(request.fleet)).of(request.sku or "", request.tags)
    if request.board is None:
        return boards
    named = {board.name: board for board in boards}
    if request.board not in named:
        raise unknown(f"board of {request.fleet}", request.board, named)
    return (named[request.board],)


def find_target(request: Request, suite: Suite) -> Target:
    """The target; that of a fleet has its boards as devices. Raises `InvalidInput` for a suite that asks for boards of a
    fleet where no fleet is named."""
    if boards := find_boards(request):
        return spread_over(boards[0].target, boards)
    if suite.sku:
        raise InvalidInput(
            f"suite {suite.name} asks for boards of SKU {suite.sku!r}: name the file that lists them, --fleet fleet.toml"
        )
    return load_target(request.target)


def override(suite: Suite, request: Request) -> Suite:
    """The suite with what the request gives instead. Raises `InvalidInput` naming the option."""
    for key in MOST:
        check_condition(key, getattr(request, key), f"--{key}")
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


def find_shifted(suite: Suite, data: Dataset | None, root: Path | None) -> Dataset | None:
    """The suite's other data set, on which an accuracy of the same network means something.

    Raises `InvalidInput` for another task than classification, and for other inputs or classes than the data set's.
    """
    if not suite.shifted_data:
        return None
    where = f"suite {suite.name}: key 'shifted_data' = {suite.shifted_data!r}"
    if data is None:
        raise InvalidInput(f"{where} needs a data set beside it: name one with `data` or --dataset")
    if not data.task.labels:
        raise InvalidInput(
            f"{where} is for an accuracy, and task {data.task.text} has none: remove it, or leave --task classification"
        )
    other = load_data(suite.shifted_data, root, task=data.task, cache=cache_folder(os.environ))
    for what, theirs, ours in (
        ("inputs of shape", other.input_shape, data.input_shape),
        ("inputs of type", other.sample[0].dtype, data.sample[0].dtype),
        ("classes:", other.classes, data.classes),
    ):
        if theirs != ours:
            raise InvalidInput(f"{where} has {what} {theirs}, {data.name!r} has {ours}: give one that has the same")
    if data.class_names and other.class_names and data.class_names != other.class_names:
        label, names = next(
            (label, names)
            for label, names in enumerate(zip(other.class_names, data.class_names, strict=True))
            if names[0] != names[1]
        )
        raise InvalidInput(
            f"{where} names the class of label {label} {names[0]!r}, {data.name!r} {names[1]!r}: give the folders of a class "
            "one name"
        )
    return other


def data_of_models(request: Request, suite: Suite, data: Dataset | None) -> list[Dataset | None]:
    """The data set of each model. A shipped suite's is for our networks: for a user's model the user names one."""
    shipped = request.data is None and not request.suite.endswith(".toml")
    return [
        None if shipped and request.models and not names_reference(text) else data
        for text in request.models or suite.models
    ]


def find_models(request: Request, suite: Suite, data: Sequence[Dataset | None], cache: Path) -> list[Model]:
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


def check_data(
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


def find_recipes(request: Request, suite: Suite) -> list[Recipe]:
    """The baseline first: every other recipe is compared with it."""
    texts = {name: text for name, text in suite.recipes.items() if name != BASELINE}
    if request.recipes:
        texts = {asked: _recipe_text(asked, suite.name, texts) for asked in request.recipes if asked != BASELINE}
    return [parse_recipe(BASELINE, ""), *(_parse(name, text, suite) for name, text in texts.items())]


def _parse(name: str, text: str, suite: Suite) -> Recipe:
    """The recipe. An error in one that the suite names says which it is."""
    try:
        return parse_recipe(name, text)
    except InvalidInput as error:
        if name not in suite.recipes:
            raise
        raise InvalidInput(f"recipe {name} of suite {suite.name}: {error}") from None


def _recipe_text(asked: str, suite: str, texts: dict[str, str]) -> str:
    """A name of the suite's, or the grammar's text itself; `InvalidInput` for a word that is neither."""
    if asked in texts:
        return texts[asked]
    steps = available("compressor")
    if not set("(+") & set(asked) and asked.strip() not in steps:
        raise unknown(f"recipe of suite {suite} or step", asked, {BASELINE, *texts, *steps})
    return asked


def find_backends(request: Request, suite: Suite, target: Target) -> tuple[list[BackendChoice], tuple[str, ...]]:
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
