"""Where a front is least known, and how a search spends its last time there."""

from __future__ import annotations

import pytest
from test_search_loop import longer, measured, searched, truth

from bench.search.goal import Goal
from bench.search.strategies.gaps import Point, find_gap
from bench.search.strategies.interface import front, rank

GOAL = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="latency")
WHOLE_NETWORK = Point(share=1.0, cost=1.0, loss=0.0)
NARROWEST = Point(share=0.1, cost=0.1, loss=1.0)


@pytest.mark.parametrize(
    ("points", "closed", "gap"),
    [
        ((), (), (0.1, 1.0)),
        (((0.5, 0.5, 0.1),), (), (0.1, 0.5)),  # 0.4 x 0.9 is unknown below it, 0.5 x 0.1 above
        (((0.5, 0.5, 0.1),), ((0.1, 0.5),), (0.5, 1.0)),
        (((0.5, 0.5, 0.1), (0.3, 0.3, 2.0)), (), (0.3, 0.5)),  # what loses too much ends the front
        (((0.5, 0.5, 0.1), (0.7, 0.7, 2.0)), (), (0.1, 0.5)),  # but not where something cheaper loses less
        (((0.5, 0.5, 0.1), (0.8, 0.8, 0.5)), (), (0.1, 0.5)),  # as little as what is beaten in both
        (((0.11, 0.11, 0.0),), (), None),
    ],
)
def test_the_gap_is_the_largest_rectangle_between_neighbours_of_the_front(points, closed, gap):
    known = [Point(share=share, cost=cost, loss=loss) for share, cost, loss in points]
    assert find_gap([NARROWEST, *known, WHOLE_NETWORK], closed) == gap


def test_time_that_is_left_behind_the_border_makes_the_front_larger_and_no_candidate_is_tried_twice():
    ended = searched(GOAL)
    tried = [one.choice for one in ended.tried]
    assert len(set(tried)) == len(tried)
    assert ended.why == "the front is known"
    beyond = [one for one in front(ended.tried) if one.over]
    assert any(1.0 < one.row["accuracy_drop_pp"] <= 10.0 for one in beyond)
    best = rank(ended.tried, GOAL)[0]
    assert best.cost == min(truth((i, j)) for i in range(4) for j in range(4) if not measured((i, j), 0, GOAL).over)
    assert all(one.predicted == pytest.approx(one.cost) for one in ended.tried[2:])


def test_what_fills_the_front_has_the_longer_training_where_there_is_one_and_ends_with_the_time():
    ended = searched(GOAL, longer=longer(GOAL))
    assert ended.tried[-1].recipe.endswith("longer")
    short = searched(GOAL, longer=longer(GOAL), trials=len(ended.tried) - 2)
    assert (len(short.tried), short.why) == (len(ended.tried) - 1, "the time is over")


def test_within_a_budget_and_where_nothing_may_be_lost_the_front_is_not_filled():
    budget = searched(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}))
    assert budget.why == "the border is known within 6 %"
    exact = searched(Goal(quality={"accuracy_drop_pp": 0.0}, minimize="latency"))
    assert exact.why == "the border is known within 6 %"
