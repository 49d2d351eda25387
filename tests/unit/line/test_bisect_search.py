"""The search for the first bad step: which steps it judges, with ratios that are handed to it."""

from __future__ import annotations

import pytest

from bench.errors import CellFailed
from bench.line.versus.search import Outcome, classify, find_first_bad, halfway, judge_step
from bench.line.versus.until import Patience
from bench.records import PairLaunch
from bench.stats import ratio


def pair(value, **changes):
    return PairLaunch(blocks_ns=((1000.0, 1000.0 * value, 1000.0 * value, 1000.0),), **changes)


def search(states):
    """What is found, and the places that were judged in order; good and bad themselves are not."""
    judged = []

    def judge(place):
        judged.append(place)
        return Outcome(place=place, state=states[place])

    return find_first_bad(len(states), judge), judged


@pytest.mark.parametrize("count", [2, 3, 10, 64, 65])
def test_every_first_bad_is_found_in_as_many_looks_as_halving_takes(count):
    for first in range(1, count):
        found, judged = search(["good"] * first + ["bad"] * (count - first))
        assert (found.first_bad, found.good) == (first, first - 1)
        assert len(judged) <= (count - 1).bit_length()


@pytest.mark.parametrize("what", ["skipped", "unknown"])
def test_a_step_that_cannot_be_judged_is_left_and_its_neighbour_taken(what):
    states = ["good"] * 5 + ["bad"] * 4
    states[4] = what  # the middle, and good in truth: it stands before the first bad
    found, judged = search(states)
    assert judged[0] == 4
    assert found.first_bad is None
    assert found.suspects == (4, 5)
    states = ["good"] * 3 + ["bad"] * 6
    states[4] = what
    assert search(states)[0].first_bad == 3


def test_only_steps_that_cannot_be_judged_leave_all_of_them_as_suspects():
    found, judged = search(["good", "skipped", "unknown", "bad"])
    assert sorted(judged) == [1, 2]
    assert (found.suspects, found.good, found.first_bad) == ((1, 2, 3), 0, None)


def test_steps_are_bad_from_half_of_what_bad_lost():
    assert halfway(ratio([pair(1.21)] * 3)) == pytest.approx(0.1)
    assert classify(ratio([pair(1.12)] * 3), 0.1) == "bad"
    assert classify(ratio([pair(1.08)] * 3), 0.1) == "good"
    assert classify(ratio([pair(0.5)] * 3), 0.1) == "good"
    assert classify(ratio([pair(value) for value in (1.05, 1.1, 1.15)]), 0.1) == "unknown"
    assert classify(ratio([pair(2)] * 2), 0.1) == "unknown"


def judged(values, patience=None, **options):
    """One step whose launches have these ratios in turn, and how many were made."""
    made = []

    def launch(number):
        made.append(number)
        return pair(values[number % len(values)])

    patience = patience or Patience(width=0.001, launches=4)
    return judge_step(3, launch, 0.1, patience, threads=1, **options), made


def test_a_clear_step_is_judged_once():
    found, made = judged([1.2, 1.21])
    assert (found.place, found.state, made) == (3, "bad", [0, 1, 2, 3])
    assert judged([1.0, 1.01])[0].state == "good"


def test_an_unknown_step_gets_more_launches_up_to_a_limit_and_says_so():
    found, made = judged([1.0, 1.2])
    assert (found.state, found.reason, made) == ("unknown", "unknown after 12 launches", list(range(12)))
    found, made = judged([1.0, 1.2, 1.2, 1.0, *[1.02] * 40])
    assert (found.state, len(made)) == ("good", 12)


def test_a_step_whose_launches_fail_is_skipped_with_the_reason():
    def fail(_number):
        raise CellFailed("the worker was killed by signal 9")

    found = judge_step(1, fail, 0.1, Patience(width=0.01), threads=1)
    assert (found.state, found.found, found.reason) == ("skipped", None, "the worker was killed by signal 9")


def test_what_must_not_be_believed_is_kept_once():
    found = judge_step(
        1, lambda _: pair(1.2, distrust=("B: fell back",)), 0.1, Patience(width=0.1, launches=3), threads=1
    )
    assert found.distrust == ("B: fell back",)
