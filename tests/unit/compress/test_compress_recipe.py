"""Recipes as text: errors name what exists, and steps that cannot follow one another are refused."""

from __future__ import annotations

import pytest

from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput


def test_no_text_is_the_baseline():
    assert parse_recipe("baseline", "").steps == ()


def test_canonical_text_leaves_defaults_out_and_keeps_the_order():
    recipe = parse_recipe("r", "prune( amount = .5, scope='global' )+finetune(learning_rate=1, epochs=3) + int8()")
    assert recipe.text == "prune(amount=0.5) + finetune(epochs=3, learning_rate=1.0) + int8"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prun(amount=0.5)", ["prun", "did you mean 'prune'", "channels"]),
        ("prune(amout=0.5)", ["amout", "did you mean 'amount'", "criterion"]),
        ("prune", ["prune", "amount", "above 0 and below 1"]),
        ("prune(amount=0)", ["amount", "above 0 and below 1"]),
        ("prune(amount=1)", ["amount", "above 0 and below 1"]),
        ("prune(amount=1e999)", ["amount", "a number"]),
        ("prune(amount=True)", ["amount", "a number"]),
        ("prune(amount='half')", ["amount", "a number"]),
        ("prune(amount=0.5, scope='all')", ["scope", "'global', 'layer'"]),
        ("finetune(epochs=0)", ["epochs", "at least 1"]),
        ("finetune(epochs=1.5)", ["epochs", "a whole number"]),
        ("int8(keep_float='fc')", ["keep_float", "a list"]),
        ("int8(percentile=20)", ["percentile", "above 50"]),
        ("nm(n=4, m=4)", ["n must be below m"]),
    ],
)
def test_a_wrong_recipe_names_the_culprit_and_what_is_allowed(text: str, words: list[str]):
    with pytest.raises(InvalidInput) as caught:
        parse_recipe("r", text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["int8 + channels(amount=0.5)", "float16 + finetune", "int8 + float16"])
def test_nothing_follows_quantization(text: str):
    with pytest.raises(InvalidInput, match="cannot follow"):
        parse_recipe("r", text)
