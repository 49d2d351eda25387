"""Suites, targets and requests: what is wrong in them is named before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.config import shipped
from bench.errors import InvalidInput
from bench.plan import Request, make_plan
from bench.suite import PACKAGE, load_suite
from bench.target import load_target, targets


def toml(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nmodles = ["lenet5"]', ["mine.toml", "unknown key 'modles'", "did you mean 'models'"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nlaunchs = 3', ["measure.launchs", "did you mean 'launches'"]),
        ('name = "x"\nmodels = "lenet5"', ["key 'models'"]),
        ('name = "x"\nmodels = []', ["key 'models' is empty"]),
        ('name = "x"\nmodels = ["lenet5"]\nbatch = [0]', ["key 'batch'", "from 1 up"]),
        ('name = "x"\nmodels = ["lenet5"]\nseed = "1"', ["key 'seed'", "found '1'"]),
        ('models = ["lenet5"]', ["key 'name' is missing"]),
        ("name = ", ["mine.toml"]),
        ('name = "x"\nmodels = ["lenet5"]\n[recipes]\nbaseline = "int8()"', ["recipes.baseline", "no steps"]),
    ],
)
def test_a_wrong_suite_names_the_file_and_the_key(tmp_path, text, words):
    with pytest.raises(InvalidInput) as error:
        load_suite(toml(tmp_path, text))
    for word in words:
        assert word in str(error.value)


def test_a_wrong_target_names_the_nearest_key(tmp_path):
    text = 'name = "x"\nmeter = ["rapl"]\n[[backend]]\nname = "ort"\n'
    with pytest.raises(InvalidInput, match="unknown key 'meter', did you mean 'meters'"):
        load_target(toml(tmp_path, text))


@pytest.mark.parametrize(("load", "what"), [(load_suite, "suite"), (load_target, "target")])
def test_an_unknown_name_lists_what_there_is(load, what):
    with pytest.raises(InvalidInput, match=f"unknown {what} 'no-such'.*known: "):
        load("no-such")
    with pytest.raises(InvalidInput, match="no such file"):
        load("missing.toml")


def test_every_shipped_suite_and_target_reads():
    assert {"cpu"} <= set(targets())
    for name in shipped(PACKAGE):
        assert load_suite(name).name == name
    for name, target in targets().items():
        assert target.name == name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "cpo"}, "unknown target 'cpo'; did you mean 'cpu'"),
        ({"suite": "defualt"}, "unknown suite 'defualt'; did you mean 'default'"),
        ({"models": ("resnet9",)}, "unknown model 'resnet9'; did you mean 'resnet8'"),
        ({"recipes": ("int9",)}, "unknown recipe 'int9'; did you mean 'int8'"),
        ({"recipes": ("prume(amount=0.5)",)}, "unknown compressor 'prume'; did you mean 'prune'"),
        ({"backends": ("orrt",)}, "unknown backend of target cpu 'orrt'; did you mean 'ort'"),
        ({"data": "digit"}, "unknown data set 'digit'"),
    ],
)
def test_an_unknown_name_on_the_command_line_names_the_nearest(change, words):
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        make_plan(Request(**{"target": "cpu", "suite": "smoke", **change}))


def test_the_baseline_is_always_planned_and_first():
    plan = make_plan(Request(target="cpu", suite="smoke", recipes=("int8",)))
    assert [cell.recipe.name for cell in plan.cells] == ["baseline", "int8"]
    assert plan.cells[1].baseline_key == plan.cells[0].key


def test_a_cells_key_is_the_same_in_every_run_and_differs_by_recipe_text():
    first = make_plan(Request(target="cpu", suite="smoke")).cells
    again = make_plan(Request(target="cpu", suite="smoke")).cells
    assert [cell.key for cell in first] == [cell.key for cell in again]
    assert len({cell.key for cell in first}) == len(first)


def test_an_optional_backend_runs_only_when_it_is_named():
    default = make_plan(Request(target="cpu", suite="smoke"))
    assert {cell.backend.title for cell in default.cells} == {"ort"}
    asked = make_plan(Request(target="cpu", suite="smoke", backends=("litert", "ort")))
    assert [cell.backend.title for cell in asked.cells[::3]] == ["ort", "litert"]


def test_a_function_that_is_not_there_ends_the_run_before_it_begins():
    with pytest.raises(InvalidInput, match="cannot be imported"):
        make_plan(Request(target="cpu", suite="smoke", models=("no.such:build",)))
