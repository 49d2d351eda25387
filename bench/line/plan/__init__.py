"""A request + its suite + its target -> the cells of a run, each with a key that is stable between runs.

`choices` looks up what is named, `keys` makes a cell's key, `cells` puts both together.
"""

from bench.line.plan.cells import Place, find_settings, key_on, make_plan, move, place_of, plan_recipe
from bench.line.plan.choices import SHARED, find_boards, find_recipes
from bench.line.plan.keys import cell_key, digest_settings, subject_of
from bench.line.plan.nouns import Plan, PlannedCell, Request

__all__ = [
    "SHARED",
    "Place",
    "Plan",
    "PlannedCell",
    "Request",
    "cell_key",
    "digest_settings",
    "find_boards",
    "find_recipes",
    "find_settings",
    "key_on",
    "make_plan",
    "move",
    "place_of",
    "plan_recipe",
    "subject_of",
]
