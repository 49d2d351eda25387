"""What a search reads and makes: budgets, the split, groups and layers of a network, cuts and their table."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from small_network import context_of, settled, small_data
from torch import nn

from bench.compress.interface import Network
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, Suite
from bench.config.target import Budget
from bench.data.parts import ArrayPart
from bench.data.validation import hold_out
from bench.errors import InvalidInput
from bench.line.plan import Plan, Request
from bench.line.probes.board import Board
from bench.line.run import plan_run
from bench.records import PairLaunch
from bench.search.asked import Asked, check_measurable, make_goal, take_suite
from bench.search.goal import Goal, parse_budgets, parse_time
from bench.search.groups import read_space
from bench.search.nouns import keep_text, whole_choice
from bench.search.plans import TRIAL, for_trials, with_limits
from bench.search.prediction.board import narrow
from bench.search.prediction.costs import add_up, count_weights
from bench.search.prediction.table import forget_layers, measure_layers
from bench.search.steps import FIXED, find_own, settle
from bench.tasks.own import find_task
from bench.types import Artifact


def silent(what: str, fraction: float) -> None:
    del what, fraction


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("speed=5",), "unknown --budget 'speed'"),
        (("latency_ms",), "write KEY=NUMBER"),
        (("latency_ms=0",), "the number is above 0"),
        (("latency_ms=nan",), "the number is above 0"),
        (("latency_ms=5", "latency_p50_ms=6"), "given twice"),
        (("accuracy_drop_pp=1",), "limited by --max-drop"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(texts, said):
    with pytest.raises(InvalidInput, match=re.escape(said)):
        parse_budgets(texts, Budget())


def test_budgets_come_before_those_of_the_target_and_figures_are_held_against_both():
    limits = parse_budgets(("latency_ms=5",), Budget(latency_p50_ms=9.0, file_kb=2.0, accuracy_drop_pp=3.0))
    assert limits == {"latency_p50_ms": 5.0, "file_kb": 2.0}
    row = {"latency_p50_ms": 6.0, "file_bytes": None}
    assert Goal(limits=limits).over(row) == {"latency_p50_ms": 6.0, "file_kb": float("inf")}


@pytest.mark.parametrize(
    ("target", "goal", "said"),
    [
        ({"reach": "emulated"}, Goal(), "times nothing"),
        ({}, Goal(limits={"energy_mj": 1.0}), "names no meter"),
        ({}, Goal(minimize="energy"), "names no meter"),
        ({"reach": "adb"}, Goal(limits={"latency_p99_ms": 1.0}), "keeps no samples"),
    ],
)
def test_a_metric_that_the_target_cannot_measure_is_refused_at_once(target, goal, said):
    fields = {"name": "t", "reach": "local", "meters": (), **target}
    backend = SimpleNamespace(name="ort", title="ort")
    plan = SimpleNamespace(target=SimpleNamespace(**fields), cells=(SimpleNamespace(backend=backend),))
    with pytest.raises(InvalidInput, match=said):
        check_measurable(plan, goal)


def test_a_suite_gives_what_the_options_leave_out(tmp_path):
    suite = tmp_path / "s.toml"
    suite.write_text(
        'name = "s"\nmodels = ["lenet5"]\n[search]\ntime = "2m"\nmax_drop = 0.5\nstrategy = "random"\nranks = true\n'
        'families = ["float16()"]\nrecipes = ["channels50"]\nstudents = ["mlp"]\nbudgets = {latency_ms = 5, file_kb = 7.5}\n'
    )
    asked = Asked(request=Request(target="cpu", suite=str(suite)), max_drop=3.0)
    taken = take_suite(asked, {"max_drop"})
    assert (taken.max_drop, taken.max_error, taken.time_s, taken.strategy) == (3.0, None, 120.0, "random")
    assert (taken.budgets, taken.families) == (("latency_ms=5", "file_kb=7.5"), ("float16()",))
    assert (taken.recipes, taken.students) == (("channels50",), ("mlp",))
    assert taken.ranks
    assert not take_suite(asked, {"ranks"}).ranks
    assert take_suite(asked, {"strategy", "families"}).strategy == "widths"
    suite.write_text('name = "s"\nmodels = ["lenet5"]\nbatch = [8]\nthreads = [1, 2]\n')
    asked = Asked(request=Request(target="cpu", suite=str(suite)))
    assert (take_suite(asked, ()).request.batch, take_suite(asked, ()).request.threads) == ((8,), (1, 2))
    given = replace(asked, request=replace(asked.request, batch=(4,), threads=(3,)))
    assert take_suite(given, ()).request == given.request
    suite.write_text('name = "s"\nmodels = ["lenet5"]\n[search]\nminimize = "speed"\n')
    with pytest.raises(InvalidInput, match="minimize 'speed'"):
        take_suite(asked, ())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"families": ("",)}, "--family: name steps"),
        ({"families": ("float16()", "float16()")}, "given twice"),
        ({"families": ("none", "int8")}, "--family none: it stands alone"),
        (
            {"families": ("mixed_int8()",), "then": "finetune(epochs=2) + int8"},
            r"--family mixed_int8\(\): it cannot follow --then",
        ),
        ({"families": ("float16()",), "strategy": "uniform"}, "--strategy uniform tries none"),
        ({"strategy": "luck"}, "--strategy 'luck'"),
        ({"recipes": ("halff",)}, "did you mean 'half'"),
        ({"recipes": ("prune(amount=2)",)}, "amount"),
        ({"recipes": ("half", "prune(amount=0.5)")}, "--recipe prune.*it is given twice"),
        ({"recipes": ("half", "half")}, "--recipe half: it is given twice"),
        ({"recipes": ("half",), "families": ("prune(amount=0.5)",)}, "--recipe half: it is a --family too"),
        ({"recipes": ("baseline",)}, "--recipe baseline: it has no steps"),
        ({"recipes": ("nothing",)}, "--recipe nothing: it has no steps"),
    ],
)
def test_a_family_strategy_or_recipe_that_means_nothing_is_refused(changed, said):
    suite = Suite(name="s", models=("lenet5",), recipes={"half": "prune(amount=0.5)", "nothing": ""})
    with pytest.raises(InvalidInput, match=said):
        settle(
            Asked(request=Request(target="cpu"), **changed),
            SimpleNamespace(cells=(SimpleNamespace(data=None),), suite=suite),
        )


INT8 = ("int8",)


@pytest.mark.parametrize(
    ("target", "changed", "families"),
    [
        ("cpu", {}, INT8),
        ("fpga", {}, FIXED),
        ("cpu", {"families": ("none",)}, ()),
        ("cpu", {"families": ()}, ()),
        ("cpu", {"families": ("float16()",)}, ("float16()",)),
        ("cpu", {"then": "finetune(epochs=1) + int8()"}, ()),
        ("cpu", {"then": "finetune(epochs=1)"}, INT8),
        ("cpu", {"recipes": INT8}, INT8),
        ("cpu", {"strategy": "uniform"}, ()),
    ],
)
def test_without_family_those_that_are_usual_on_the_target_are_tried(target, changed, families):
    request = Request(target=target, models=("lenet5",), recipes=("baseline",), data="digits", batch=(1,), threads=(1,))
    asked = Asked(**{"request": request, **changed})
    plan = plan_run(asked.request)
    settled = settle(asked, plan)
    assert settled.families == families
    unknown = replace(plan, cells=tuple(replace(cell, data=None) for cell in plan.cells))
    assert settle(asked, unknown).families == (asked.families if asked.families == ("float16()",) else ())


def one_cell(data: str | None) -> Plan:
    """A plan of LeNet-5 on one backend."""
    request = Request(target="cpu", models=("lenet5",), recipes=("baseline",), data="digits", backends=("ort",))
    plan = plan_run(request)
    return plan if data else replace(plan, cells=tuple(replace(cell, data=None) for cell in plan.cells))


@pytest.mark.parametrize(
    ("changed", "of_target", "quality"),
    [
        ({}, {}, {"accuracy_drop_pp": 1.0}),
        ({}, {"accuracy_drop_pp": 0.3}, {"accuracy_drop_pp": 0.3}),
        ({"max_drop": 2.0}, {"accuracy_drop_pp": 0.3}, {"accuracy_drop_pp": 2.0}),
        ({"data": None}, {"accuracy_drop_pp": 0.3}, {"output_relative_rms": 0.1}),
        ({"data": None, "max_error": 0.0}, {}, {"output_relative_rms": 0.0}),
    ],
)
def test_the_drop_is_limited_by_the_command_else_by_the_target(changed, of_target, quality):
    given = {"data": "digits", **changed}
    plan = one_cell(given.pop("data"))
    plan = replace(plan, target=replace(plan.target, budget=Budget(**of_target)))
    assert make_goal(Asked(request=Request(target="cpu"), **given), plan).quality == quality


@pytest.mark.parametrize(
    ("data", "changed", "said"),
    [
        ("digits", {"max_drop": math.inf}, "--max-drop inf: a number from 0 up"),
        ("digits", {"max_drop": math.nan}, "--max-drop nan"),
        (None, {"max_error": -1.0}, "--max-error -1"),
        (None, {"max_error": 0.6}, "--max-error 0.6: a number from 0 to 0.5; outputs that are further away"),
        ("digits", {"max_error": 0.2}, "--max-error 0.2: there is a data set; --max-drop"),
        (None, {"max_drop": 0.5}, "--max-drop 0.5: there is no data set; --max-error"),
    ],
)
def test_a_limit_of_quality_that_means_nothing_here_is_refused(data, changed, said):
    with pytest.raises(InvalidInput, match=said):
        make_goal(Asked(request=Request(target="cpu"), **changed), one_cell(data))


def of_task(text: str, limit: float | None = None) -> Plan:
    """`one_cell` with labels of another task; `limit`: of the target."""
    plan = one_cell("digits")
    data = SimpleNamespace(task=find_task(text))
    budget = Budget(accuracy_drop_pp=30.0, score_drop=limit)
    cells = tuple(replace(cell, data=data) for cell in plan.cells)
    return replace(plan, cells=cells, target=replace(plan.target, budget=budget))


@pytest.mark.parametrize(
    ("task", "of_target", "given", "limit"),
    [
        ("segmentation", None, None, 0.01),
        ("multilabel", 0.2, None, 0.2),
        ("segmentation", 0.2, 0.05, 0.05),
        ("regression", 7.0, None, 7.0),
        ("regression", None, 2.5, 2.5),
    ],
)
def test_the_drop_of_a_score_is_limited_in_its_unit_and_that_of_a_fraction_to_one_point(task, of_target, given, limit):
    asked = Asked(request=Request(target="cpu"), max_drop=given)
    assert make_goal(asked, of_task(task, of_target)).quality == {"score_drop": limit}


@pytest.mark.parametrize(
    ("task", "of_target", "given", "said"),
    [
        ("segmentation", None, 1.0, "--max-drop 1: mIoU is from 0 to 1, so all of it may go; one point is 0.01"),
        ("multilabel", 2.0, None, "--max-drop 2: mean average precision"),
        ("regression", None, None, "--max-drop: say how much worse RMSE may get, in target's unit"),
        ("task_networks:Huber", None, None, "how much worse mean absolute error may get, in points"),
    ],
)
def test_a_limit_that_lets_all_of_a_score_go_is_refused_and_none_is_made_up(task, of_target, given, said):
    with pytest.raises(InvalidInput, match=said):
        make_goal(Asked(request=Request(target="cpu"), max_drop=given), of_task(task, of_target))


def test_trials_are_stopped_as_the_suite_says_and_have_samples_for_a_percentile_that_is_limited():
    plan = one_cell("digits")
    careful = Measure(launches=4, time_s=7.0, limit_s=2000.0, max_samples=900)
    plan = replace(plan, suite=replace(plan.suite, measure=careful))
    usual = for_trials(plan).suite.measure
    assert (usual.launches, usual.time_s, usual.limit_s) == (TRIAL.launches, TRIAL.time_s, 2000.0)
    limited = with_limits(plan, Goal(limits={"latency_p99_ms": 5.0}))
    found = for_trials(limited).suite.measure
    assert (found.launches, found.time_s, found.max_samples, found.pairs) == (4, 7.0, 900, TRIAL.pairs)


def test_recipes_of_the_suite_and_steps_are_candidates_as_they_are_written():
    suite = Suite(name="s", models=("lenet5",), recipes={"half": "prune(amount=0.5)", "unused": "int8"})
    student = "student(model='lenet5') + distill(epochs=1)"
    asked = Asked(request=Request(target="cpu"), recipes=("half", student))
    found = find_own(asked, SimpleNamespace(suite=suite))
    assert [(one.name, one.text) for one in found] == [("half", "prune(amount=0.5)"), (student, student)]


@pytest.mark.parametrize(
    ("then", "untrained", "left"),
    [
        (None, "", "mean"),
        ("prune(amount=0.5)", "prune(amount=0.5)", "mean"),
        ("finetune(epochs=2) + int8", "int8", "nothing"),
    ],
)
def test_a_branch_leaves_nothing_only_where_training_follows(then, untrained, left):
    asked = Asked(request=Request(target="cpu"), then=then)
    assert (asked.untrained, asked.left) == (untrained, left)


def test_times_are_read_and_no_time_is_refused():
    assert [parse_time(text) for text in ("90", "90s", "1.5m", "2h")] == [90, 90, 90, 7200]
    for text in ("0", "0h", "soon", "-1m", ""):
        with pytest.raises(InvalidInput, match="--time"):
            parse_time(text)


def test_choices_are_made_on_samples_that_are_not_trained_with_and_never_on_the_test_set():
    data = small_data()
    split = hold_out(data, 0)
    used, kept = (part.inputs(slice(None))[0] for part in (split.train, split.test))
    assert (len(used), len(kept)) == (102, 26)
    both = np.sort(np.concatenate([used, kept]).sum((1, 2, 3)))
    assert np.array_equal(both, np.sort(data.train.inputs(slice(None))[0].sum((1, 2, 3))))
    assert split.digest != data.digest
    few = ArrayPart((data.train.x[0][:40],), data.train.y[:40])
    with pytest.raises(InvalidInput, match="needs 100 or more"):
        hold_out(type(data)(name="few", train=few, test=data.test, classes=4), 0)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    module = settled()
    return read_space(Network(module=module), context_of(module, tmp_path_factory.mktemp("cache")), 1, silent)


def test_groups_and_the_layers_that_follow_them_are_read_from_the_network(space):
    places = {group.layers[0]: place for place, group in enumerate(space.groups)}
    assert {frozenset(group.layers) for group in space.groups} == {
        frozenset({"conv", "depthwise"}),
        frozenset({"pointwise"}),
        frozenset({"fc1"}),
    }
    layers = {layer.name: layer for layer in space.layers}
    assert layers["fc1"].inputs.per == {places["pointwise"]: 4.0}
    assert layers["depthwise"].shape.depthwise
    for group in space.groups:
        assert list(group.losses) == sorted(group.losses, reverse=True)
        assert group.losses[-1] == 0


def test_weights_add_up_and_a_choice_has_a_text(space):
    costs = add_up(space.layers, space.groups, count_weights)
    assert costs.of(whole_choice(space.groups)) == sum(layer.weights for layer in space.layers)
    narrow_choice = tuple(0 for _ in space.groups)
    assert set(keep_text(space.groups, narrow_choice)) == {
        f"{group.layers[0]}={group.widths[0]}" for group in space.groups
    }
    assert keep_text(space.groups, whole_choice(space.groups)) == ()
    assert "criterion='taylor') + int8" in narrow(space, narrow_choice, "int8")
    assert narrow(space, whole_choice(space.groups), "int8") == "int8"


class Residual(nn.Module):
    """One branch of one group of channels, and one that another group leaves through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 16, 1)
        self.last = nn.Conv2d(16, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.last(torch.relu(self.first(x))))
        return self.fc(x.mean((2, 3)))


def test_a_group_that_is_all_of_a_branch_may_have_no_channels_and_costs_nothing_then(tmp_path):
    torch.manual_seed(0)
    module = Residual().eval()
    network, context = Network(module=module), context_of(module, tmp_path)
    space = read_space(network, context, 1, silent)
    found = {group.layers[0]: group for group in space.groups}
    assert {name: group.branch for name, group in found.items()} == {"first": "last", "last": ""}
    first = found["first"]
    assert first.widths[:2] == (0, 4)
    assert first.losses[0] >= first.losses[1]
    assert [first.widths[place] for place in first.kept] == list(first.widths[1:])

    none = tuple(0 if group.branch else len(group.widths) - 1 for group in space.groups)
    costs = add_up(space.layers, space.groups, count_weights)
    assert costs.of(none) == 8 * 9 + 8 * 4
    text = narrow(space, none, "int8")
    assert text == "branches(drop=('last',)) + int8"
    left = narrow(replace(space, left="nothing"), none, "int8")
    assert left == "branches(drop=('last',), keep='nothing') + int8"
    (step, _) = parse_recipe("r", text).steps
    assert not hasattr(step.apply(network, context).module.last, "weight")
    assert "first=0" not in narrow(space, tuple(0 for _ in space.groups), "")
    assert all(not group.branch for group in read_space(network, context, 1, silent, short=False).groups)


@pytest.mark.parametrize("call_ns", [0.0, 3e5])
def test_layers_are_cut_out_timed_against_a_reference_without_their_calls_and_kept(space, tmp_path: Path, call_ns):
    """A file's time is that of a call, and its number of weights in microseconds; the reference's 1 ms."""
    runs = []

    def build(file: Path, recipe: str) -> Artifact:
        assert not recipe
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        weights = sum(int(np.prod(constant.dims)) for constant in model.graph.initializer if len(constant.dims) > 1)
        return Artifact(path=file, format="onnx", facts={"weights": weights})

    def compare(first: Artifact, others) -> list[PairLaunch]:
        runs.append(len(others))
        times = [call_ns + 1e3 * one.facts["weights"] for one in others]
        return [PairLaunch(blocks_ns=((1e6, one, one, 1e6),) * 5) for one in times]

    def table():
        return measure_layers(
            space,
            Board(identity="formula", build=build, compare=compare),
            cache=tmp_path / "cache",
            folder=tmp_path,
            progress=silent,
            late=lambda _: False,
        )

    grids = table()
    assert grids["fc1"].at(48, 16) == pytest.approx(48 * 16 / 1000)
    assert grids["depthwise"].at(8, 8) == pytest.approx(8 * 9 / 1000)
    count = len(runs)
    assert table().keys() == grids.keys()
    assert len(runs) == count
    forget_layers(space, "formula", tmp_path / "cache")
    table()
    assert len(runs) == 2 * count, "the call is timed again too"
