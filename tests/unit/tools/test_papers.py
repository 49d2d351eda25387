"""Judging a paper's claim: the mean decides, a miss shows, and what was tried once is not tried again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.compress.recipe import parse_recipe
from bench.models.catalogue import MODELS
from tools.papers import trial
from tools.papers.claims import Bound, Claim, fewer, gain, rise, smaller
from tools.papers.page import page, settle
from tools.papers.speed import SPEED
from tools.papers.table import CLAIMS, LARGE, SMALL
from tools.papers.trial import Asked, Found, attempt

FOUND = Found(
    accuracy=0.98,
    reference_accuracy=0.985,
    params=1000,
    nonzero_params=80,
    macs=900,
    file_bytes=5000,
    entropy_bytes=100,
    cpu_s=1.0,
    wall_s=2.0,
)


def claim(bound: Bound) -> Claim:
    return Claim(title="A claim", source="nobody", trials={"x": Asked(model="lenet5", recipe="")}, bounds=(bound,))


@pytest.mark.parametrize(
    ("must", "limit", "values", "reached"),
    [
        ("at most", 0.3, (0.2, 0.4), True),
        ("at most", 0.3, (0.2, 0.5), False),
        ("at least", 12.0, (12.0, 12.0), True),
        ("above", 0.0, (0.0, 0.0), False),
        (None, 0.0, (9.0, 9.0), True),
    ],
)
def test_the_mean_over_the_seeds_decides(must, limit, values, reached):
    bound = Bound(figure="f", value=lambda tried: tried["x"], must=must, limit=limit)
    assert settle(claim(bound), [{"x": value} for value in values], {}).reached is reached


def test_figures_are_what_their_names_say():
    tried = {"x": FOUND, "y": replace(FOUND, accuracy=0.97)}
    assert rise("x", tried) == pytest.approx(0.5)
    assert gain("x", "y", tried) == pytest.approx(1.0)
    assert fewer("x", tried) == 12.5
    assert smaller("x", tried) == 40.0


def test_a_recipe_without_an_entropy_coded_file_has_no_size_to_show():
    with pytest.raises(AssertionError, match="no entropy-coded file"):
        smaller("x", {"x": replace(FOUND, entropy_bytes=None)})


def test_a_claim_that_is_missed_says_so_on_the_page():
    bound = Bound(figure="rise", value=lambda tried: tried["x"], must="at most", limit=0.3, published="0.1")
    text = page([settle(claim(bound), [{"x": 0.5}, {"x": 0.7}], {"x": 3.0})], [0, 1], 10.0, 20.0)
    assert "0 of 1 claims reached" in text
    assert "| rise | 0.1 | 0.60 ± 0.14 points | 0.50, 0.70 | at most 0.3 | **not reached** |" in text


def test_seeds_that_chose_a_setting_do_not_judge_it_and_the_page_names_those_that_do():
    one = replace(
        claim(Bound(figure="f", value=lambda tried: tried["x"], must="above")), chosen_on=frozenset({0, 2, 3})
    )
    assert one.seeds([0, 1, 2]) == (1, 4, 5)
    assert "- seeds 1, 4, 5" in page([settle(one, [{"x": 1.0}] * 3, {}, one.seeds([0, 1, 2]))], [0, 1, 2], 1.0, 1.0)
    assert claim(one.bounds[0]).seeds([0, 1, 2]) == (0, 1, 2)


def test_what_was_tried_with_this_code_is_kept_and_anything_else_is_tried(tmp_path, monkeypatch):
    tries = []

    def compress_one(**asked):
        tries.append((asked["model"], asked["recipe"], asked["seed"]))
        return {key: getattr(FOUND, key) for key in trial.KEPT}

    monkeypatch.setattr(trial, "compress_one", compress_one)
    asked = Asked(model="lenet5", recipe="int8()", dataset="digits")
    first = attempt(asked, 0, code="a", cache=tmp_path, data_root="")
    assert attempt(asked, 0, code="a", cache=tmp_path, data_root="") == first
    assert len(tries) == 1
    attempt(asked, 1, code="a", cache=tmp_path, data_root="")
    attempt(asked, 0, code="b", cache=tmp_path, data_root="")
    assert len(tries) == 3
    for file in (tmp_path / "papers").glob("*/entry.json"):
        file.write_text(json.dumps({"accuracy": 1.0}))
    attempt(asked, 0, code="a", cache=tmp_path, data_root="")
    assert len(tries) == 4


def test_every_claim_is_of_networks_and_recipes_that_exist_and_can_fail():
    assert {model.partition("(")[0] for model in (*SMALL, *LARGE)} == set(MODELS) - {"autoencoder", "alexnet", "mlp"}
    for one in (*CLAIMS, SPEED):
        assert any(bound.must for bound in one.bounds)
        for asked in one.trials.values():
            assert asked.model.partition("(")[0] in MODELS
            assert parse_recipe(one.title, asked.recipe).text.count(" + ") == asked.recipe.count(" + ")
