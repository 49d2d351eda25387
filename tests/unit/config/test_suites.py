"""The shipped suites: everything they name exists, can be built and follows on from what stands before it."""

from __future__ import annotations

import pytest

from bench.compress.recipe import parse_recipe
from bench.config.strict_toml import shipped
from bench.config.suite import BASELINE, PACKAGE, load_suite
from bench.data.datasets import IDX_NAMES, load_data
from bench.line.plan import SHARED
from bench.models.registry import resolve
from bench.plugins import available

SUITES = sorted(shipped(PACKAGE))


def calls(name: str) -> set[str]:
    """Names of the steps a suite's recipes are made of."""
    recipes = load_suite(name).recipes.items()
    return {step.name for key, text in recipes for step in parse_recipe(key, text).steps}


@pytest.mark.parametrize("name", SUITES)
def test_every_recipe_of_a_suite_reads_and_its_canonical_text_reads_back_equal(name):
    for key, text in load_suite(name).recipes.items():
        recipe = parse_recipe(key, text)
        assert parse_recipe(key, recipe.text) == recipe


@pytest.mark.parametrize("name", SUITES)
def test_no_two_recipes_of_a_suite_are_the_same(name):
    suite = load_suite(name)
    texts = [parse_recipe(key, text).text for key, text in suite.recipes.items() if key != BASELINE]
    assert sorted(set(texts)) == sorted(texts)
    assert "" not in texts


@pytest.mark.parametrize("name", SUITES)
def test_every_model_of_a_suite_is_one_that_its_data_set_fits(name):
    suite = load_suite(name)
    data = load_data(suite.data) if suite.data and suite.data not in IDX_NAMES else None
    resolved = [resolve(text, data) for text in suite.models if not text.startswith(SHARED)]
    assert all(model.input_shape for model in resolved)
    assert len(resolved) + sum(text.startswith(SHARED) for text in suite.models) > 0


def test_all_methods_leaves_out_no_registered_step():
    assert sorted(set(available("compressor")) - calls("all-methods")) == []


def test_a_suite_without_data_asks_for_no_training():
    without = [suite for suite in map(load_suite, SUITES) if not suite.data]
    assert without, "no shipped suite is without data"
    steps = [step for suite in without for key, text in suite.recipes.items() for step in parse_recipe(key, text).steps]
    assert [repr(step) for step in steps if step.trains] == []
