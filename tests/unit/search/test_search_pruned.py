"""Candidates that end before they are trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_search_loop import GROUPS, SPACE, WHOLE, measured, pruned, searched, truth

from bench.errors import BoardLost, CellFailed
from bench.line.plan import Request
from bench.search.asked import Asked
from bench.search.goal import Goal
from bench.search.pace import Pace
from bench.search.prediction.board import Timer
from bench.search.prediction.counted import Counter
from bench.search.prediction.looks import Looks, keeps_kernels
from bench.search.strategies.hopeless import MARGIN, find_hopeless, may_be_hopeless
from bench.search.strategies.interface import rank

FASTEST = Goal(quality={"accuracy_drop_pp": 5.5}, minimize="latency")
WITHIN = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
TIGHT = Goal(limits={"latency_p50_ms": 2.5}, quality={"accuracy_drop_pp": 9.0})
KNOWN, STORED = (1, 1), (2, 2)
"""Choices whose look is in the cache, and whose trial is in the store."""
EVERY = [(i, j) for i in range(4) for j in range(4)]


def untrained(choice, family) -> float:
    """What each takes, trained or not."""
    return measured(choice, None, FASTEST, family).cost


def test_a_candidate_over_the_limit_of_the_cost_is_hopeless_but_not_by_a_launch_that_was_slow():
    assert find_hopeless(MARGIN * 5.0, WITHIN, []) is None
    found = find_hopeless(6.0, WITHIN, [])
    assert (found.why, found.excess) == ("6 ms untrained, 5 allowed", pytest.approx(0.2))


def test_a_candidate_is_hopeless_where_a_cheaper_one_loses_nothing_and_cost_is_minimized():
    whole, lossy = measured(WHOLE, None, FASTEST), measured((0, 3), None, FASTEST)
    assert lossy.cost < whole.cost
    assert find_hopeless(0.99 * whole.cost, FASTEST, [whole, lossy]) is None, "the cheaper one loses something"
    found = find_hopeless(1.2 * whole.cost, FASTEST, [whole, lossy])
    assert found.why == "9.6 ms untrained, and the uncompressed network loses nothing at 8 ms"
    assert find_hopeless(1.2 * whole.cost, WITHIN, [whole]) is not None, "5 ms are allowed"
    quality = Goal(limits={"latency_p50_ms": 50.0}, quality={"accuracy_drop_pp": 9.0})
    assert find_hopeless(1.2 * whole.cost, quality, [whole]) is None, "the best quality wins, not the least cost"
    size = Goal(quality={"accuracy_drop_pp": 9.0}, minimize="size")
    assert find_hopeless(1.2 * whole.cost, size, [whole]) is None


def test_nothing_is_looked_at_where_no_look_can_end_it():
    whole, lossless = measured(WHOLE, None, FASTEST), measured((3, 2), None, FASTEST)
    lossless = replace(lossless, row={**lossless.row, "accuracy_drop_pp": 0.0})
    student = replace(whole, recipe="student(model='mlp')")
    looked = [
        ("", whole, FASTEST, [whole]),
        ("", student, FASTEST, [student]),
        ("half", whole, FASTEST, [whole]),
        ("", whole, FASTEST, [whole, lossless]),
        ("", whole, WITHIN, [whole]),
    ]
    assert [may_be_hopeless(*one) for one in looked] == [False, False, True, True, True]
    seen = []
    searched(FASTEST, strategy="random", look=lambda choice, _family: seen.append(choice), trials=9)
    assert seen == []


def test_what_misses_another_limit_or_is_not_believed_makes_no_candidate_hopeless():
    small = Goal(limits={"file_kb": 0.5}, quality={"accuracy_drop_pp": 5.5}, minimize="latency")
    whole = measured(WHOLE, None, small)
    assert whole.over
    assert find_hopeless(1.2 * whole.cost, small, [whole]) is None
    assert find_hopeless(9.0, FASTEST, [measured(WHOLE, None, FASTEST, "odd")]) is None


@pytest.mark.parametrize("strategy", ["random", "optuna"])
def test_what_is_pruned_is_neither_trained_nor_counted_as_tried_and_the_best_is_still_found(strategy):
    if strategy == "optuna":
        pytest.importorskip("optuna", reason="pip install 'pressbench[search]'")
    ended, again = (searched(WITHIN, strategy=strategy, look=untrained, trials=200) for _ in range(2))
    measured_, ended_early = {one.choice for one in ended.tried}, [one.choice for one in ended.pruned]
    assert ended_early
    assert len(set(ended_early)) == len(ended_early)
    assert not measured_ & set(ended_early)
    assert all(truth(choice) > 5.0 for choice in ended_early)
    assert rank(ended.tried, WITHIN)[0].choice == rank([measured(one, None, WITHIN) for one in EVERY], WITHIN)[0].choice
    assert (again.tried, again.pruned) == (ended.tried, ended.pruned), "the same answers give the same proposals"


def test_a_slow_family_ends_without_its_training_and_the_line_says_what_and_why():
    said = []

    def end(choice, family, why, excess):
        said.append((choice, family, why))
        return pruned(choice, family, why, excess)

    ended = searched(
        FASTEST,
        strategy="random",
        families=("", "odd"),
        look=lambda choice, family: truth(choice) * (9.0 if family == "odd" else 1.0),
        end=end,
    )
    assert {family for _, family, _ in said} >= {"odd"}
    assert [(one.choice, one.family, one.why) for one in ended.pruned] == said
    assert all("loses nothing at" in why for _, _, why in said)


def test_optuna_hears_of_a_pruned_candidate_as_one_that_breaks_a_constraint(monkeypatch):
    optuna = pytest.importorskip("optuna", reason="pip install 'pressbench[search]'")
    made, create = [], optuna.create_study
    monkeypatch.setattr(optuna, "create_study", lambda **given: made.append(create(**given)) or made[-1])
    ended = searched(WITHIN, strategy="optuna", look=untrained, trials=12)
    (study,) = made
    states = optuna.trial.TrialState
    told = [one for one in study.get_trials() if one.state == states.PRUNED]
    assert {tuple(one.params[group.layers[0]] for group in GROUPS) for one in told} == {
        one.choice for one in ended.pruned
    }
    assert told
    assert all(one.values is None and one.constraints["latency_p50_ms"] > 0 for one in told)
    missed = [one for one in study.get_trials(states=[states.COMPLETE]) if one.constraints["latency_p50_ms"] > 0]
    for one in missed:
        assert one.constraints["latency_p50_ms"] == pytest.approx(one.values[0] / 5.0 - 1)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ("", True),
        ("distill(epochs=6)", True),
        ("finetune(epochs=2) + int8", True),
        ("iterative(to=0.5, granularity='channel')", False),
        ("mixed_int8()", False),
        ("qat(epochs=1)", False),
        ("prune(amount=0.5) + finetune(epochs=1)", False),
    ],
)
def test_a_cost_is_known_before_training_only_where_weights_do_not_decide_what_runs(steps, kept):
    assert keeps_kernels(steps) is kept


class Slow(Timer):
    """A target on which each look takes 3 s and says that the network takes as long as the uncompressed one."""

    def __init__(self, seconds, error=None) -> None:
        object.__setattr__(self, "cell", (seconds, error))

    def is_known(self, _space, choice, _untrained) -> bool:
        return choice == KNOWN

    def networks(self, _space, choices, untrained, whole_ms, *, again=False):
        del again
        seconds, error = self.cell
        seconds.append(seconds[-1] + 3.0)
        if error is not None:
            raise error
        return [whole_ms * (0.5 if untrained == "int8" else 1.0)] * len(choices)


def looks(timer, seconds, said=None, is_stored=lambda choice, _family: choice == STORED):
    return Looks(
        space=SPACE,
        timer=timer,
        asked=Asked(request=Request(target="cpu"), then="finetune(epochs=2)"),
        whole=measured(WHOLE, None, FASTEST),
        pace=Pace(clock=lambda: seconds[-1], time_s=60.0, reserve=1.0),
        is_stored=is_stored,
        note=[].append if said is None else said.append,
    )


def test_a_look_times_the_candidate_with_its_family_and_its_time_comes_before_that_of_the_trial():
    seconds = [0.0]
    found = looks(Slow(seconds), seconds)
    found.pace.usual_s = 25.0
    assert (found.cost((0, 0), ""), found.cost((0, 0), "int8")) == (8.0, 4.0)
    assert found.cost((0, 0), "mixed_int8()") is None
    assert (found.pace.look_s, seconds[-1]) == (3.0, 6.0)
    assert found.pace.time_left(1.0)
    seconds.append(9.0)
    assert not found.pace.time_left(1.0), "of 35 s for trials 9 are over, and 3 and 25 would follow"


def test_looks_end_where_they_take_more_than_a_quarter_of_a_trial_but_what_a_search_saw_it_sees_again():
    seconds = [0.0]
    found = looks(Slow(seconds), seconds)
    assert found.cost((0, 0), "") == 8.0, "the first one says how long they take"
    found.pace.usual_s = 11.0
    assert found.cost((0, 1), "") is None
    assert found.cost(KNOWN, "") == 8.0
    found.pace.usual_s = 13.0
    assert found.cost((0, 1), "") == 8.0
    assert found.cost(STORED, "") is None, "it was tried, for whatever reason, and is again"


def test_luts_are_not_known_before_training_and_what_cannot_be_timed_is_tried():
    assert looks(Counter(cell=None, state=None), [0.0]).cost((0, 0), "") is None
    said, seconds = [], [0.0]
    assert looks(Slow(seconds, CellFailed("it crashed")), seconds, said=said).cost((0, 0), "") is None
    assert said == ["a candidate was not timed before its training: it crashed"]
    with pytest.raises(BoardLost):
        looks(Slow(seconds, BoardLost("gone")), seconds).cost((0, 0), "")


class Kept(Slow):
    """A target whose looks are kept, as the cache does. `seconds`: the clock, which each new look moves by `takes`."""

    def __init__(self, seconds, takes, kept) -> None:
        object.__setattr__(self, "cell", (seconds, takes, kept))

    def is_known(self, _space, choice, _untrained) -> bool:
        return choice in self.cell[2]

    def networks(self, _space, choices, _untrained, _whole_ms, *, again=False):
        del again
        seconds, takes, kept = self.cell
        (choice,) = choices
        seconds.append(seconds[-1] + (0.5 if choice in kept else takes))
        kept[choice] = truth(choice)
        return [kept[choice]]


def search_timed(takes, trial_s, kept, stored):
    """A search whose looks take so long, and whose trials too, but for those that are `stored`."""
    seconds = [0.0]
    found = looks(Kept(seconds, takes, kept), seconds, is_stored=lambda choice, _family: choice in stored)
    slow = iter(trial_s)

    def trial(choice, predicted, family):
        began = found.pace.spent_s()
        if choice not in stored:
            seconds.append(seconds[-1] + next(slow))
        found.pace.add(began)
        return measured(choice, predicted, TIGHT, family)

    return searched(TIGHT, strategy="random", look=found.cost, trial=trial, trials=14)


def test_a_search_that_is_continued_prunes_and_tries_the_same_however_long_its_looks_take_now():
    kept = {}
    first = search_timed(3.0, [2.0, 2.0, 2.0, *[30.0] * 20], kept, ())
    tried = {one.choice for one in first.tried[1:]}
    assert first.pruned
    assert any(truth(choice) > MARGIN * 2.5 for choice in tried), "while looks were too slow, hopeless ones were tried"
    again = search_timed(99.0, [1.0] * 20, kept, tried)
    assert (again.tried, again.pruned) == (first.tried, first.pruned)
