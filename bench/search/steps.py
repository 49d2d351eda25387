"""The steps that candidates are made of: what follows the narrowing, families, recipes as they are written, and students."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from bench.compress.interface import Compressor
from bench.compress.pipeline import open_network
from bench.compress.recipe import parse_recipe
from bench.compress.train.distill import Student
from bench.errors import InvalidInput, Unsupported, unknown
from bench.line.plan import Plan, find_recipes
from bench.models.catalogue import Training
from bench.search.asked import Asked, only_simulates
from bench.search.strategies.known import STRATEGIES, WITHOUT_FAMILIES
from bench.types import Progress, Recipe

THEN = "finetune(epochs=2)"
LONGER = "distill(epochs=6, learning_rate=0.005)"
"""What follows in a second round, where the user leaves both to us."""
LEARNS = "distill(epochs={epochs}, learning_rate=0.005)"
"""How a student learns where the user only names it: for as many epochs as a network here that is trained from scratch."""
NONE = "none"
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")
INT8 = ("int8",)
FIXED = (
    "fixed(width=8)",
    "mixed_fixed(max_drop_pp=1)",
    "prune(amount=0.6) + finetune(epochs=3) + mixed_fixed(max_drop_pp=1)",
)
"""Families that are usual on a target that runs networks, and on an FPGA, where each bit of a weight costs logic and a zero none,
where there are samples to calibrate with. `mixed_fixed` judges by training samples, of which a network loses more than of others:
the search holds the limit, by validation samples."""


def settle(asked: Asked, plan: Plan) -> Asked:
    """With families, and with the steps that follow the narrowing: the user's, else a short and a longer training where there is
    a data set.

    Raises `InvalidInput` as `find_own` and `find_students`, for a family or strategy that means nothing, for a family that cannot
    follow those steps or that the strategy does not try, and for a recipe that is a family or a student too.
    """
    if asked.strategy not in STRATEGIES:
        raise unknown("--strategy", asked.strategy, STRATEGIES)
    families = _check_families(asked)
    given = {parse_recipe("--family", text).steps for text in families}
    students = {recipe.steps for recipe in find_students(asked, plan)}
    for text, recipe in zip(asked.recipes, find_own(asked, plan), strict=True):
        if recipe.steps in given:
            raise InvalidInput(f"--recipe {text}: it is a --family too")
        if recipe.steps in students:
            raise InvalidInput(f"--recipe {text}: it is a --student too, which is tried as it is written")
    asked = replace(asked, families=_find_usual(asked, plan) if asked.families is None else families)
    if asked.then is None:
        has_data = plan.cells[0].data is not None
        return replace(asked, then=THEN if has_data else "", longer=LONGER if has_data else "")
    parse_recipe("--then", asked.then)
    return asked


def _check_families(asked: Asked) -> tuple[str, ...]:
    families = asked.families or ()
    if families == (NONE,):
        return ()
    if NONE in families:
        raise InvalidInput(f"--family {NONE}: it stands alone; a candidate without a family is always tried")
    for place, text in enumerate(families):
        if not parse_recipe("--family", text).steps:
            raise InvalidInput(f"--family: name steps, as int8, or {NONE}")
        if text in families[:place]:
            raise InvalidInput(f"--family {text!r} is given twice")
        if asked.strategy in WITHOUT_FAMILIES:
            raise InvalidInput(f"--family {text}: --strategy {asked.strategy} tries none; end --then with it")
        try:
            _join(asked.then, text)
        except InvalidInput as error:
            raise InvalidInput(f"--family {text}: it cannot follow --then {asked.then}: {error}") from error
    return families


def _join(then: str | None, family: str) -> None:
    """Raises `InvalidInput` where the family cannot follow those steps."""
    parse_recipe("steps", " + ".join(filter(None, (then, family))))


def _find_usual(asked: Asked, plan: Plan) -> tuple[str, ...]:
    """The families that are usual on the target and may follow `--then`."""
    cell = plan.cells[0]
    if cell.data is None or asked.strategy in WITHOUT_FAMILIES:
        return ()
    usual = FIXED if only_simulates(cell) else INT8
    return tuple(text for text in usual if _may_follow(text, asked.then or ""))


def _may_follow(family: str, then: str) -> bool:
    try:
        _join(then, family)
    except InvalidInput:
        return False
    return True


def find_own(asked: Asked, plan: Plan) -> list[Recipe]:
    """The recipes that are candidates as they are written. Raises `InvalidInput` as `parse_recipe`, for one given twice, and for
    one without steps, which is the uncompressed network."""
    found: list[Recipe] = []
    for text in asked.recipes:
        named = find_recipes(replace(asked.request, recipes=(text,)), plan.suite)[1:]
        if not (named and named[0].steps):
            raise InvalidInput(f"--recipe {text}: it has no steps; the uncompressed network is always measured")
        if any(named[0].steps == one.steps for one in found):
            raise InvalidInput(f"--recipe {text}: it is given twice")
        found += named
    return found


def find_students(asked: Asked, plan: Plan) -> list[Recipe]:
    """The steps that make each network that takes the place of the user's.

    Raises `InvalidInput` for steps that do not begin with `student`, that nothing can follow, for a file of weights only, and
    for one that is given twice.
    """
    found: list[Recipe] = []
    for text in asked.students:
        recipe = _read_student(text, plan)
        if any(recipe.steps == one.steps for one in found):
            raise InvalidInput(f"--student {text}: it is given twice")
        found.append(replace(recipe, name=recipe.text))
    return found


def _read_student(text: str, plan: Plan) -> Recipe:
    where = f"--student {text}"
    if text.endswith(CHECKPOINTS):
        raise InvalidInput(
            f"{where}: weights have no layers: name a function that builds the network and loads them, as nets:small"
        )
    if not text.strip().startswith(f"{Student.name}("):
        if " + " in text or not text.strip():
            raise InvalidInput(f"{where}: name one network, or steps that begin with student(model='...')")
        data = plan.cells[0].data
        learns = "" if data is None else LEARNS.format(epochs=Training().epochs_for(len(data.train)))
        return Recipe(name=text, steps=(Student(model=text), *parse_recipe(where, learns).steps))
    try:
        recipe = parse_recipe(where, text)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error
    if last := next((step for step in recipe.steps if isinstance(step, Compressor) and step.quantizes), None):
        raise InvalidInput(f"{where}: the narrowing cannot follow {last!r}; name it with --family")
    return recipe


def check_students(asked: Asked, plan: Plan, cache: Path, progress: Progress) -> None:
    """Raises `InvalidInput` for a student that cannot take the place of the user's network, before either is trained."""
    students = find_students(asked, plan)
    if not students:
        return
    model = plan.cells[0].model
    network, context = open_network(
        model,
        data=plan.data.laid_out(model.layouts) if plan.data else None,
        cache=cache,
        seed=plan.suite.seed,
        progress=progress,
        data_asked=plan.request.data is not None,
        trained=False,
    )
    for text, recipe in zip(asked.students, students, strict=True):
        changed = network
        try:
            for step in takewhile(lambda step: not step.trains, compressors(recipe)):
                changed = step.apply(changed, context)
        except (InvalidInput, Unsupported) as error:
            raise InvalidInput(f"--student {text}: {error}") from error


def compressors(recipe: Recipe) -> tuple[Compressor, ...]:
    """The steps of a recipe that pressbench itself applies."""
    return tuple(step for step in recipe.steps if isinstance(step, Compressor))
