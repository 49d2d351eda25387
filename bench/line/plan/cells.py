"""Suite + target + what the command line narrows -> the cells of a run, in the order they are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.compress.calibration import CalibrateOn
from bench.config.suite import Suite, load_suite
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset, load_data
from bench.errors import InvalidInput
from bench.line.options import fit_recipe
from bench.line.own_models import (
    InputOptions,
    choose_backends,
    choose_calibration,
    describe_inputs,
)
from bench.line.plan.choices import (
    check_data,
    data_of_models,
    find_backends,
    find_models,
    find_recipes,
    find_shifted,
    find_target,
    override,
)
from bench.line.plan.keys import cell_key, describe_feed, digest_settings, source_of, subject_of
from bench.line.plan.nouns import Plan, PlannedCell, Request
from bench.models.layouts import describe_layout, lay_out
from bench.paths import cache_folder
from bench.tasks.own import find_task
from bench.types import Conditions, Json, Model, Recipe

Place = tuple[str, str, str, Conditions]
"""Model, recipe, backend and conditions of a cell, whatever board measures it. In one plan no two cells share it."""


def make_plan(request: Request, cache: Path | None = None) -> Plan:
    """Raises `InvalidInput` for every name that does not exist, before anything is measured.

    `cache`: where a .pt2 file becomes ONNX; None: the folder that the environment names.
    """
    suite = override(load_suite(request.suite), request)
    target = find_target(request, suite)
    root = Path(request.data_root) if request.data_root else None
    said = InputOptions(inputs=suite.inputs, feedback=suite.feedback, signature=suite.signature, data=suite.input_data)
    name = "" if said.data else suite.data if request.data is None else request.data
    task = find_task(request.task or suite.task)
    data = load_data(name, root, task=task, cache=cache_folder(os.environ)) if name else None
    shifted = find_shifted(suite, data, root)
    given = data_of_models(request, suite, data)
    found = find_models(request, suite, given, cache or cache_folder(os.environ))
    described = describe_inputs(found, said, request.data or "")
    models = [lay_out(model, own, suite.seed) for model, own in zip(described, given, strict=True)]
    turned = [f"{model.name}: {note}" for model in models if (note := describe_layout(model))]
    told = (*check_data(request, suite, data, models, given), *(data.notes if data else ()), *turned)
    recipes = find_recipes(request, suite)
    backends, notes = find_backends(request, suite, target)
    chosen = [(backends, "") if request.backends else choose_backends(model, backends, target) for model in models]
    notes += (*(note for _, note in chosen if note), *told)
    input_data = said.file()
    calibrate = choose_calibration(suite.calibrate, input_data, recipes)
    fed = describe_feed(input_data, calibrate)
    planned_on = replace(target, devices=_devices(request, target))
    cells = tuple(
        cell
        for model, own_data, (own, _) in zip(models, given, chosen, strict=True)
        for cell in _cells(
            suite, planned_on, [*subject_of(model, own_data), *fed], model, recipes, own, own_data, calibrate
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


def find_settings(request: Request) -> str:
    """`digest_settings` of what the suite and the target of a request say now. Raises `InvalidInput` as `make_plan`."""
    suite = override(load_suite(request.suite), request)
    return digest_settings(suite, find_target(request, suite))


def _devices(request: Request, target: Target) -> tuple[str, ...]:
    """Those that the cells are planned for: of boards that share them the first, or a plan would grow with cells x boards."""
    return target.devices[:1] if request.fleet is not None and not request.each else target.devices


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
            for (recipe, chosen), key, of_recipe in zip(fitted, keys, subjects, strict=True):
                yield PlannedCell(
                    model=model,
                    recipe=recipe,
                    backend=backend,
                    conditions=condition,
                    key=key,
                    baseline_key=keys[0],
                    chosen=chosen,
                    data=data,
                    subject=tuple(of_recipe),
                )


def plan_recipe(plan: Plan, baseline: PlannedCell, recipe: Recipe) -> PlannedCell:
    """The cell of another recipe, compared with `baseline`: the same model, data set, backend and conditions."""
    fitted, chosen = fit_recipe(recipe, baseline.backend, plan.target.reach)
    subject = [
        *subject_of(baseline.model, baseline.data),
        *describe_feed(plan.input_data, plan.calibrate),
        *source_of(recipe, baseline.data, plan.calibrate),
    ]
    key = cell_key(plan.suite, plan.target, subject, fitted, baseline.backend, baseline.conditions)
    return replace(baseline, recipe=fitted, key=key, baseline_key=baseline.key, chosen=chosen, subject=tuple(subject))


def key_on(plan: Plan, cell: PlannedCell, board: str) -> str:
    """The key that a cell has on another board of the fleet."""
    conditions = replace(cell.conditions, device=board)
    return cell_key(plan.suite, plan.target, cell.subject, cell.recipe, cell.backend, conditions)


def move(plan: Plan, cells: Sequence[PlannedCell], board: str) -> tuple[PlannedCell, ...]:
    """A baseline and what is compared with it, as another board of the fleet measures them."""
    keys = [key_on(plan, cell, board) for cell in cells]
    return tuple(
        replace(cell, conditions=replace(cell.conditions, device=board), key=key, baseline_key=keys[0])
        for cell, key in zip(cells, keys, strict=True)
    )


def place_of(cell: PlannedCell) -> Place:
    """What a cell has in common with the same cell on another board: its files are made once for all."""
    return cell.model.name, cell.recipe.name, cell.backend.title, replace(cell.conditions, device="")


def _check_distinct(cells: Sequence[PlannedCell]) -> None:
    """A store keeps one record a key: of two cells that share one, the first's would be lost."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            what = f"model {cell.model.name}, recipe {cell.recipe.name}, backend {cell.backend.title}"
            conditions = f"batch {cell.conditions.batch}, threads {cell.conditions.threads}"
            raise InvalidInput(f"{what}, {conditions} is asked for twice: name each model and each condition once")
        seen.add(cell.key)
