"""The clock of a search: no trial begins that is not expected to end before the finalists' time."""

from __future__ import annotations

import pytest

from bench.search.pace import KNOWN_RESERVE, LONGER_TAKES, RESERVE, Pace


def pace_at(seconds: list[float], reserve: float = RESERVE, time_s: float = 100.0) -> Pace:
    """With a clock that stands at the last of `seconds`."""
    pace = Pace(clock=lambda: seconds[-1], time_s=time_s, reserve=reserve)
    pace.whole_s = 5.0
    return pace


@pytest.mark.parametrize(("reserve", "left"), [(RESERVE, False), (KNOWN_RESERVE, True)])
def test_less_time_is_kept_where_finalists_need_no_training(reserve: float, left: bool) -> None:
    now = [1000.0]
    pace = pace_at(now, reserve)
    now.append(1020.0)
    pace.add(0.0)
    now.append(1050.0)
    assert pace.time_left(1.0) is left  # 20 s more: until 70 of 35, or of 75


def test_a_trial_of_the_second_round_is_expected_to_take_longer_before_one_has_run() -> None:
    now = [0.0]
    pace = pace_at(now, KNOWN_RESERVE)
    now.append(10.0)
    pace.add(0.0)
    now.append(30.0)
    assert pace.time_left(1.0)
    assert not pace.time_left(1.0, longer=True)  # until 70, and 40 more for a finalist like it: 5 s beyond 95
    pace.time_s += LONGER_TAKES * 10
    assert pace.time_left(1.0, longer=True)
    now.append(45.0)
    pace.add(30.0, longer=True)
    pace.time_s = 100.0
    assert pace.time_left(1.0, longer=True)  # it took 15


def test_a_search_with_a_second_round_ends_within_its_time() -> None:
    """Trials of 10 s, of the second round 38 s; two finalists are trained again."""
    now = [0.0]
    pace = pace_at(now, time_s=600.0)
    for longer, takes in ((False, 10.0), (True, 38.0)):
        for _ in range(5 if not longer else 99):
            if not pace.time_left(1.0, longer=longer):
                break
            now.append(now[-1] + takes)
            pace.add(now[-1] - takes, longer=longer)
    assert now[-1] + 2 * 38.0 + pace.whole_s <= pace.time_s
    assert now[-1] > 0.6 * pace.time_s


def test_recipes_as_they_are_written_have_a_time_of_their_own_and_keep_time_for_finalists() -> None:
    now = [0.0]
    pace = pace_at(now)
    now.append(18.0)
    pace.add(0.0, own=True)
    assert pace.time_for_own()  # until 36 of 41
    assert pace.spent() == pytest.approx(18 / 41)
    now.append(24.0)
    assert not pace.time_for_own()
    assert pace.time_left(1.0)


def test_a_finalist_trains_its_student_again_and_a_student_is_only_tried_within_a_part_of_the_time() -> None:
    now = [0.0]
    pace = pace_at(now)
    now.append(10.0)
    pace.add(0.0)
    assert pace.time_left(1.0)  # 10 more until 65
    pace.head_s = 14.0
    assert pace.time_left(1.0)  # until 23
    pace.head_s = 15.0
    assert not pace.time_left(1.0)  # until 20
    pace.head_s = 0.0
    now.append(40.0)
    assert pace.time_for_own()
    assert not pace.time_for_own(0.5)
