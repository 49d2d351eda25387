"""Where a front is least known, and how a search spends its last time there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_search_loop import GROUPS, WHOLE, longer, measured, searched, truth

from bench.errors import CellFailed
from bench.search.goal import Goal
from bench.search.strategies import axis, widths
from bench.search.strategies.gaps import Point, find_gap
from bench.search.strategies.interface import front, quality_loss, rank

GOAL = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="latency")
EVERY = [(i, j) for i in range(4) for j in range(4)]


def point(share: float, loss: float, high: float = 0.0) -> Point:
    return Point(low=share, high=high or share, cost=share, loss=loss)


@pytest.mark.parametrize(
    ("points", "closed", "gap"),
    [
        ((), (), (0.1, 1.0)),
        ((point(0.5, 0.1),), (), (0.1, 0.5)),  # 0.4 x 0.9 is unknown below it, 0.5 x 0.1 above
        ((point(0.5, 0.1),), ((0.1, 0.5),), (0.5, 1.0)),
        ((point(0.5, 0.1), point(0.3, 2.0)), (), (0.3, 0.5)),  # what loses too much ends the front
        ((point(0.5, 0.1), point(0.7, 2.0)), (), (0.1, 0.5)),  # but not where something cheaper loses less
        ((point(0.5, 0.1), point(0.8, 0.5)), (), (0.1, 0.5)),  # as little as what is beaten in both
        ((point(0.5, 0.1, high=0.995),), ((0.1, 0.5),), None),  # all shares above it came to it
        ((point(0.11, 0.0),), (), None),
    ],
)
def test_the_gap_is_the_largest_rectangle_between_neighbours_of_the_front(points, closed, gap):
    assert find_gap([point(0.1, 1.0), *points, point(1.0, 0.0)], closed) == gap


def unfilled(monkeypatch, *args, **more):
    """The search without its last stage."""
    with monkeypatch.context() as patch:
        patch.setattr(widths, "find_gap", lambda *_: None)
        return searched(*args, **more)


def area(tried) -> float:
    """What the front dominates, up to a loss of 10 and the uncompressed cost."""
    found, floor = 0.0, 10.0
    for one in reversed(front(tried, GOAL)):
        found += max(0.0, floor - quality_loss(one)) * (truth(WHOLE) - one.cost)
        floor = min(floor, quality_loss(one))
    return found


@pytest.mark.parametrize("trained", ["once", "longer too"])
def test_time_that_is_left_behind_the_border_makes_the_front_larger_until_it_is_known(monkeypatch, trained):
    more = {} if trained == "once" else {"longer": longer(GOAL)}
    ended, before = searched(GOAL, **more), unfilled(monkeypatch, GOAL, **more)
    assert [one.key for one in ended.tried[: len(before.tried)]] == [one.key for one in before.tried]
    assert area(ended.tried) > area(before.tried)
    assert ended.why == "the front is known" != before.why
    added = ended.tried[len(before.tried) :]
    assert len({one.choice for one in added}) == len(added)
    assert all(one.recipe.endswith("longer") == bool(more) for one in added)
    assert all(one.predicted == pytest.approx(one.cost) for one in added)
    assert rank(ended.tried, GOAL)[0].cost == rank(before.tried, GOAL)[0].cost
    short = searched(GOAL, trials=len(ended.tried) - 2, **more)
    assert len(before.tried) < len(short.tried) < len(ended.tried)
    assert short.why == "the time is over"


def test_a_front_that_is_known_lacks_less_than_a_twentieth_of_what_every_network_would_give():
    ended = searched(GOAL)
    assert ended.why == "the front is known"
    assert len(ended.tried) < len(EVERY)
    missed = area([measured(choice, None, GOAL) for choice in EVERY]) - area(ended.tried)
    assert 0 <= missed < 0.05 * 10.0 * truth(WHOLE)


def test_within_a_budget_and_where_nothing_may_be_lost_the_front_is_not_filled():
    budget = searched(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}))
    assert budget.why == "the border is known within 6 %"
    exact = searched(Goal(quality={"accuracy_drop_pp": 0.0}, minimize="latency"))
    assert exact.why == "the border is known within 6 %"


def test_a_recipe_that_beats_the_front_leaves_nothing_to_fill():
    best = replace(measured(WHOLE, None, GOAL), choice=None, recipe="own")
    ended = searched(GOAL, own=(replace(best, row={**best.row, "latency_p50_ms": 0.1}),))
    assert ended.why == "the border is known within 6 %"


def test_the_family_with_the_least_of_what_is_minimized_is_filled(monkeypatch):
    """`half` takes half of the time. By size it is four times as small, and slower."""
    goal = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="size")

    def trial(choice, predicted, family):
        one = measured(choice, predicted, goal, family)
        kept = sum(group.widths[place] for group, place in zip(GROUPS, choice, strict=True)) / 32
        size = 1000.0 * kept * (0.25 if family else 1.0)
        return replace(
            one, row={**one.row, "file_bytes": size, "latency_p50_ms": truth(choice) * (2.0 if family else 1.0)}
        )

    ended = searched(goal, trial=trial, families=("", "half"))
    before = unfilled(monkeypatch, goal, trial=trial, families=("", "half"))
    added = ended.tried[len(before.tried) :]
    assert added
    assert {one.family for one in added} == {"half"}


def test_a_solver_that_finds_nothing_in_time_ends_the_filling_and_not_the_search(monkeypatch):
    before = unfilled(monkeypatch, GOAL)
    solve, calls = axis.allocate, []

    def slow(*args):
        calls.append(args)
        if len(calls) > 12:
            raise CellFailed("the widths were not found in 60 s")
        return solve(*args)

    monkeypatch.setattr(axis, "allocate", slow)
    ended = searched(GOAL)
    assert len(ended.tried) >= len(before.tried)
    assert len(calls) > 12
