"""The loop over candidates, on a target that is a formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.commands.search.answer import explain_missed
from bench.line.probes.cuts import Shape
from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.nouns import Group, Layer, Side, whole_choice
from bench.search.prediction.costs import add_up
from bench.search.prediction.predict import by_macs, fit, fit_in_turn
from bench.search.prediction.table import Grid
from bench.search.strategies.drawn import SEARCHED
from bench.search.strategies.interface import OVER, Means, Pruned, Scene, Tried, front, rank
from bench.search.strategies.known import STRATEGIES
from bench.search.strategies.widths import try_families

WIDTHS = (4, 8, 12, 16)
GROUPS = tuple(
    Group(layers=(name,), widths=WIDTHS, losses=(6.0 * hard, 2.0 * hard, hard, 0.0))
    for name, hard in (("a", 1), ("b", 4))
)
LAYERS = (
    Layer(name="a", inputs=Side(whole=1), outputs=Side(whole=16, per={0: 1.0}), shape=Shape(), weights=16),
    Layer(
        name="b", inputs=Side(whole=16, per={0: 1.0}), outputs=Side(whole=16, per={1: 1.0}), shape=Shape(), weights=256
    ),
)
SPACE = Space(groups=GROUPS, layers=LAYERS, fixed={})
GRIDS = {
    "a": Grid(inputs=(1,), outputs=(4, 16), ms=np.array([[0.4, 1.0]])),
    "b": Grid(inputs=(4, 16), outputs=(4, 16), ms=np.array([[0.5, 1.0], [1.0, 4.0]])),
}
WHOLE = whole_choice(GROUPS)


def truth(choice) -> float:
    """Half again as slow as the table says, and a constant."""
    return 0.5 + 1.5 * add_up(LAYERS, GROUPS, lambda layer, i, o: GRIDS[layer.name].at(i, o)).of(choice)


def measured(choice, predicted, goal, family="") -> Tried:
    """Family `half` takes half of the time and costs 0.5 points; `shy` a third, but refuses the uncompressed network; `odd` is not
    believed."""
    lost = 0.5 * (family in ("half", "shy")) + sum(
        group.losses[place] for group, place in zip(GROUPS, choice, strict=True)
    )
    ms = truth(choice) * {"half": 1 / 2, "shy": 1 / 3}.get(family, 1.0)
    status = {"odd": "untrusted", "shy": "skipped" if choice == WHOLE else "ok"}.get(family, "ok")
    row = {"status": status, "latency_p50_ms": ms, "accuracy_drop_pp": lost, "file_bytes": 1000.0}
    recipe = "" if (choice, family) == (WHOLE, "") else f"r{choice}{family}"
    return Tried(
        choice=choice,
        recipe=recipe,
        key=recipe,
        row=row,
        over=goal.over(row),
        predicted=predicted,
        family=family,
    )


def longer(goal):
    """More training gives back two thirds of what was lost."""

    def trial(choice, predicted, family):
        less = Goal(limits=goal.limits, quality={name: 3 * most for name, most in goal.quality.items()})
        one = measured(choice, predicted, less, family)
        lost = one.row["accuracy_drop_pp"] / 3
        return replace(one, row={**one.row, "accuracy_drop_pp": lost}, recipe=f"{one.recipe} longer")

    return trial


def pruned(choice, family, why, excess) -> Pruned:
    return Pruned(choice=choice, recipe=f"r{choice}{family}", family=family, why=why, excess=excess)


def searched(
    goal,
    *,
    predictor=None,
    trials=99,
    quick=lambda _: [],
    strategy="widths",
    families=("",),
    own=(),
    space=SPACE,
    scene=None,
    **more,
):
    checked = [(choice, truth(choice)) for choice in ((0, 0), (1, 2), (2, 1))]
    predictor = predictor or fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), checked)
    left = iter([True] * trials)
    means = Means(
        trial=lambda choice, ms, family: measured(choice, ms, goal, family),
        quick=quick,
        look=lambda _choice, _family: None,
        end=pruned,
        time_left=lambda _part, *, longer=False: next(left, False),
        spent=lambda: 0.0,
    )
    means = replace(means, **more)
    given = Scene(
        space=space,
        predictor=predictor,
        goal=goal,
        whole=measured(WHOLE, None, goal),
        own=own,
        families=families,
        seed=1,
    )
    return STRATEGIES[strategy](replace(given, **(scene or {})), means)


def test_the_best_network_within_a_budget_is_found_and_its_latency_was_predicted():
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    best = rank(searched(goal).tried, goal)[0]
    every = [(i, j) for i in range(4) for j in range(4)]
    ideal = min(
        (one for one in every if truth(one) <= 5.0), key=lambda one: measured(one, 0, goal).row["accuracy_drop_pp"]
    )
    assert best.choice == ideal
    assert best.predicted == pytest.approx(best.cost)


def test_without_a_budget_the_fastest_within_the_drop_is_found():
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    best = rank(searched(goal).tried, goal)[0]
    every = [(i, j) for i in range(4) for j in range(4)]
    assert best.cost == min(truth(one) for one in every if not measured(one, 0, goal).over)


def test_a_first_figure_that_is_far_off_does_not_end_the_search():
    """A neighbour made the first candidate look nearly as slow as the uncompressed network, and spoilt the table's check.
    Each cut layer took ten times as long to call as to run."""
    goal = Goal(quality={"accuracy_drop_pp": 6.5}, minimize="latency")
    called = {name: replace(grid, ms=grid.ms + 30.0) for name, grid in GRIDS.items()}
    poor = fit(SPACE, called, (WHOLE, truth(WHOLE)), [((0, 0), 9.0), ((1, 2), 2.0), ((2, 1), 7.0)])
    assert poor.why
    seen = []

    def trial(choice, predicted, family):
        one = measured(choice, predicted, goal, family)
        seen.append(one)
        return replace(one, row={**one.row, "latency_p50_ms": 7.9}) if len(seen) == 1 else one

    best = rank(searched(goal, predictor=poor, trial=trial).tried, goal)[0]
    every = [(i, j) for i in range(4) for j in range(4)]
    assert best.cost == min(truth(one) for one in every if not measured(one, 0, goal).over)


def test_time_that_is_left_is_trained_with_from_the_border_on():
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    short, ended = searched(goal), searched(goal, longer=longer(goal))
    first = [one.choice for one in ended.tried if not one.recipe.endswith("longer")]
    assert (
        [one.choice for one in ended.tried[: len(first)]] == first == [one.choice for one in short.tried[: len(first)]]
    )
    best = rank(ended.tried, goal)[0]
    assert best.recipe.endswith("longer")
    assert best.cost < rank(short.tried, goal)[0].cost
    every = [(i, j) for i in range(4) for j in range(4)]
    wider = replace(goal, quality={"accuracy_drop_pp": 9.0})
    assert best.cost == min(truth(one) for one in every if not measured(one, 0, wider).over)


def test_within_a_budget_the_widths_found_are_trained_longer_and_no_others():
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    ended = searched(goal, longer=longer(goal))
    best = rank(ended.tried, goal)[0]
    assert [one.choice for one in ended.tried if one.recipe.endswith("longer")] == [best.choice]
    assert best.recipe.endswith("longer")


def test_an_impossible_budget_says_by_how_much_it_is_missed_and_what_binds():
    goal = Goal(limits={"latency_p50_ms": 0.2}, quality={"accuracy_drop_pp": 1.0})
    ended = searched(goal)
    assert "the narrowest widths are predicted to take 1.85 ms, and 0.194 ms were asked for" in ended.why
    assert rank(ended.tried, goal) == []
    assert "latency_p50_ms (8 of 0.2); latency_p50_ms binds" in explain_missed(ended.tried, goal)


def test_a_drop_of_nothing_can_be_asked_for_and_missed():
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 0.0})
    ended = searched(goal)
    assert "accuracy_drop_pp binds" in explain_missed(ended.tried[1:], goal)


def test_no_trial_begins_when_the_time_is_over():
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    ended = searched(goal, trials=0)
    assert (len(ended.tried), ended.why) == (1, "the time is over")


def test_a_table_with_large_errors_is_not_believed_and_whole_candidates_are_timed():
    checked = [((0, 0), 9.0), ((1, 2), 2.0), ((2, 1), 7.0)]
    poor = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), checked)
    assert "the bounds are 5% and 15%" in poor.why
    timed = []

    def quick(choices):
        timed.extend(choices)
        return [truth(choice) for choice in choices]

    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    ended = searched(goal, predictor=replace(poor, offset=0.5, slope=1.6), quick=quick)
    assert timed
    assert rank(ended.tried, goal)[0].cost <= 5.0


def test_whole_candidates_are_timed_without_the_family_and_held_against_the_uncompressed_network():
    """The family takes half of the time; its candidates at the border of the budget are not taken for too slow."""
    checked = [(choice, truth(choice)) for choice in ((0, 0), (1, 2), (2, 1))]
    doubted = replace(fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), checked), why="it is not believed")
    goal = Goal(limits={"latency_p50_ms": 2.5}, quality={"accuracy_drop_pp": 9.0})
    quick = [truth(choice) for choice in ((0, 0), (1, 2), (2, 1))]
    assert max(quick) > 2.5, "without the family none keeps the budget"
    ended = searched(
        goal, predictor=doubted, families=("", "half"), quick=lambda choices: [truth(choice) for choice in choices]
    )
    halves = [(i, j) for i in range(4) for j in range(4) if truth((i, j)) / 2 <= 0.97 * 2.5]
    ideal = min(halves, key=lambda one: measured(one, 0, goal, "half").row["accuracy_drop_pp"])
    assert ideal == next(one.choice for one in ended.tried if one.family == "half" and one.choice != WHOLE)


def test_of_a_network_that_cannot_be_narrowed_each_family_is_tried():
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    means = Means(
        trial=lambda choice, ms, family: measured(WHOLE, ms, goal, family),
        quick=lambda _: [],
        look=lambda _choice, _family: None,
        end=pruned,
        time_left=lambda _part, *, longer=False: True,
        spent=lambda: 0.0,
    )
    empty = replace(SPACE, groups=(), layers=())
    scene = Scene(
        space=empty, predictor=None, goal=goal, whole=measured(WHOLE, None, goal), families=("", "half", "odd")
    )
    ended = try_families(scene, means)
    assert [one.family for one in ended.tried] == ["", "half", "odd"]
    assert ended.why == "no layer of this network can be narrowed"
    assert try_families(scene, replace(means, time_left=lambda _part, *, longer=False: False)).why == OVER


def test_without_a_table_multiply_accumulates_stand_in_and_are_believed_within_the_same_bounds():
    choices = ((0, 0), (1, 2), (2, 1))
    found = fit(SPACE, {}, (WHOLE, 10.0), list(zip(choices, (9.0, 2.0, 7.0), strict=True)))
    assert (found.by, "by multiply-accumulates is off by" in found.why) == ("macs", True)
    exact = by_macs(SPACE, 100.0)
    found = fit(SPACE, {}, (WHOLE, 100.0), [(choice, exact.predict(choice)) for choice in choices])
    assert (found.by, found.why, found.worst_error < 1e-9) == ("macs", "", True)
    assert "no random network checked" in fit(SPACE, {}, (WHOLE, 100.0), []).why


def test_multiply_accumulates_take_the_place_of_a_table_that_is_not_believed():
    exact = by_macs(SPACE, 100.0)
    checked = [(choice, exact.predict(choice)) for choice in ((0, 0), (1, 2), (2, 1))]
    noisy = {name: replace(grid, ms=grid.ms[:, ::-1]) for name, grid in GRIDS.items()}
    assert [(one.by, bool(one.why)) for one in fit_in_turn(SPACE, noisy, (WHOLE, 100.0), checked)] == [
        ("table", True),
        ("macs", False),
    ]
    off = [(choice, truth(choice) * scale) for (choice, _), scale in zip(checked, (0.5, 1.0, 2.0), strict=True)]
    found = fit_in_turn(SPACE, GRIDS, (WHOLE, truth(WHOLE)), off)
    assert all(one.why for one in found)
    assert found[-1].share_of_bounds == min(one.share_of_bounds for one in found)
    good = [(choice, truth(choice)) for choice, _ in checked]
    assert [one.by for one in fit_in_turn(SPACE, GRIDS, (WHOLE, truth(WHOLE)), good)] == ["table"]


def test_channels_below_a_step_of_the_kernels_save_nothing_by_the_prediction():
    """A network's narrow layers may take half a step, which only a table can price."""
    found = fit(replace(SPACE, step=8), {}, (WHOLE, 10.0), [])
    narrow, step, whole = (found.costs.of(choice) for choice in ((0, 3), (1, 3), (3, 3)))
    assert narrow == step == whole / 2
    pure = by_macs(replace(SPACE, step=8), 10.0).costs
    assert pure.of((0, 3)) == pure.of((1, 3)) / 2


def test_a_limit_that_the_narrowest_widths_keep_ends_the_search():
    ended = searched(Goal(quality={"accuracy_drop_pp": 99.0}, minimize="latency"))
    assert (ended.tried[-1].choice, ended.why) == ((0, 0), "the narrowest widths keep the limit")


def test_the_front_holds_what_nothing_beats_and_a_cell_that_is_not_trusted_counts_nowhere():
    goal = Goal(limits={"latency_p50_ms": 9.0})
    good, worse = measured((2, 3), 1.0, goal), measured((3, 0), 1.0, goal)
    untrusted = replace(measured((0, 3), 1.0, goal), row={**good.row, "status": "untrusted"})
    whole = measured(WHOLE, None, goal)
    assert [one.choice for one in front([whole, good, worse, untrusted], goal)] == [WHOLE, (2, 3), (3, 0)]
    assert untrusted not in rank([whole, good, untrusted], goal)


def test_a_dearer_family_is_tried_only_below_what_a_cheaper_one_reached():
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    ended = searched(goal, families=("", "half"), trials=12)
    best = min(one.cost for one in ended.tried if one.family == "half" and not one.over)
    plain = [one for one in ended.tried[1:] if not one.family]
    first = plain[: next((place for place, one in enumerate(plain) if one.over), len(plain)) + 1]
    assert first, "it has its trial"
    assert all(one.predicted <= best for one in first)
    assert len(first) <= 2


def test_families_are_walked_with_times_of_their_own_and_one_that_is_not_believed_is_not():
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    ended = searched(goal, families=("", "half", "odd"))
    every = [(i, j) for i in range(4) for j in range(4)]
    ideal = min(truth(one) / 2 for one in every if not measured(one, 0, goal, "half").over)
    best = rank(ended.tried, goal)[0]
    assert (best.family, best.cost) == ("half", ideal)
    assert best.predicted == pytest.approx(ideal, rel=0.1)
    assert [one.choice for one in ended.tried if one.family == "odd"] == [WHOLE]


@pytest.mark.parametrize("others", [(), ("half",)])
def test_a_family_that_refuses_the_uncompressed_network_is_walked_from_the_best_candidate_on(others):
    goal = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency")
    tried = searched(goal, families=("", *others, "shy")).tried
    every = [measured((i, j), 0, goal, "shy") for i in range(4) for j in range(4)]
    best, later = rank(tried, goal)[0], [one for one in tried if one.family == "shy"]
    assert (best.family, best.cost) == ("shy", min(one.cost for one in every if one.counts and not one.over))
    assert [one.choice for one in later][:2] == [WHOLE, rank(tried[: tried.index(later[1])], goal)[0].choice]
    assert len({one.choice for one in later}) == len(later)
    assert [one.predicted for one in later[2:]] == [pytest.approx(one.cost) for one in later[2:]]


def test_a_family_that_refused_has_no_other_try_where_nothing_could_be_narrowed():
    goal = Goal(quality={"accuracy_drop_pp": 0.5}, minimize="latency")
    assert [one.choice for one in searched(goal, families=("", "shy")).tried if one.family == "shy"] == [WHOLE]


def test_the_cheapest_family_has_a_part_of_what_the_others_uncompressed_networks_left():
    """Of 100 s each trial takes 15; two families take 30, a third of the time."""
    goal, took = Goal(quality={"accuracy_drop_pp": 3.0}, minimize="latency"), []

    def trial(choice, predicted, family):
        took.append(15.0)
        return measured(choice, predicted, goal, family)

    ended = searched(
        goal,
        families=("", "half", "odd"),
        trial=trial,
        time_left=lambda part, *, longer=False: sum(took) + 15 < 100 * part,
        spent=lambda: sum(took) / 100,
    )
    assert [one.family for one in ended.tried[3:4]] == ["half"]
    assert sum(took) <= 100


@pytest.mark.parametrize("strategy", ["macs", "uniform", "random", "optuna"])
def test_every_baseline_finds_a_network_tries_none_twice_and_gives_the_same_trials_again(strategy):
    if strategy == "optuna":
        pytest.importorskip("optuna", reason="pip install 'pressbench[search]'")
    goal = Goal(quality={"accuracy_drop_pp": 5.5}, minimize="latency")
    few = 9 if strategy == "optuna" else 99
    ended, again = (searched(goal, strategy=strategy, families=("", "half"), trials=few) for _ in range(2))
    tried = [(one.choice, one.family) for one in ended.tried]
    assert len(set(tried)) == len(tried)
    assert ended.tried[0].recipe == ""
    assert rank(ended.tried, goal)[0].cost < truth(WHOLE)
    assert [one.key for one in again.tried] == [one.key for one in ended.tried]
    if strategy in ("random", "optuna"):
        assert {family for _, family in tried} == {"", "half"}
    if strategy == "optuna":
        assert (len(tried), ended.why) == (10, "the time is over")
    if strategy == "random":
        assert (len(tried), ended.why) == (32, SEARCHED)


def test_uniform_widths_leave_ranks_as_they_are():
    goal = Goal(quality={"accuracy_drop_pp": 5.5}, minimize="latency")
    channels, rank_of_b = GROUPS[0], replace(GROUPS[1], rank=True)
    ended = searched(goal, strategy="uniform", space=replace(SPACE, groups=(channels, rank_of_b)))
    assert {one.choice[1] for one in ended.tried} == {3}
    assert len(ended.tried) > 1
    only = searched(goal, strategy="uniform", space=replace(SPACE, groups=(replace(channels, rank=True), rank_of_b)))
    assert [one.choice for one in only.tried] == [WHOLE]


def test_where_size_is_minimized_the_front_holds_the_smallest_though_it_is_slower():
    goal = Goal(quality={"accuracy_drop_pp": 9.0}, minimize="size")
    whole = measured(WHOLE, None, goal)
    small = replace(
        whole, recipe="small", row={**whole.row, "latency_p50_ms": 99.0, "accuracy_drop_pp": 1.0, "file_bytes": 1}
    )
    assert front([whole, small], goal) == [whole, small]
    assert front([whole, small], replace(goal, minimize="latency")) == [whole]
