"""Launches end at the asked width, at the time limit, or at a fixed number."""

from __future__ import annotations

import pytest

from bench.line.versus.until import Patience, half_width, launch_until, launches_to_decide
from bench.records import PairLaunch
from bench.stats import ratio


def pair(value):
    return PairLaunch(blocks_ns=((1000.0, 1000.0 * value, 1000.0 * value, 1000.0),))


def launches(scatter, patience, *, middle=1.0, each_s=1.0):
    """What `launch_until` does with ratios that alternate around `middle`; each launch takes `each_s` seconds."""
    at = [0.0]

    def launch(number):
        at[0] += each_s
        return pair(middle * (1 + (scatter if number % 2 else -scatter)))

    return launch_until(launch, patience, threads=1, smallest_effect=0.01, now=lambda: at[0])


def test_a_calm_pair_ends_as_soon_as_its_scatter_is_known():
    done = launches(0.0001, Patience(width=0.005))
    assert (len(done.pairs), done.stopped, done.ratio.verdict, done.seconds) == (8, "width", "same", 8.0)


def test_a_wider_scatter_takes_more_launches_until_the_width_is_reached():
    done = launches(0.01, Patience(width=0.005))
    assert done.stopped == "width"
    assert 15 < len(done.pairs) < 30
    assert half_width(done.ratio) <= 0.005


def test_a_larger_smallest_effect_asks_for_fewer_launches():
    assert len(launches(0.01, Patience(width=0.01)).pairs) < len(launches(0.01, Patience(width=0.005)).pairs)


def test_the_time_limit_ends_it_but_never_before_there_is_an_interval():
    done = launches(0.1, Patience(width=0.005, time_s=20))
    assert (len(done.pairs), done.stopped) == (20, "time limit")
    slow = launches(0.1, Patience(width=0.005, time_s=20), each_s=50)
    assert (len(slow.pairs), slow.stopped) == (3, "time limit")
    assert slow.ratio.low is not None


def test_a_fixed_number_is_kept_whatever_the_width_and_the_time():
    done = launches(0.1, Patience(width=0.005, time_s=1, launches=5))
    assert (len(done.pairs), done.stopped) == (5, "launches")


def test_what_it_would_take_to_decide_is_said_and_nothing_where_the_ratio_lies_at_the_bound():
    apart = ratio([pair(value) for value in (1.01, 1.03, 1.015, 1.04)])
    assert apart.verdict == "inconclusive"
    assert 4 < launches_to_decide(apart, 0.01) < 40
    assert launches_to_decide(ratio([pair(value) for value in (1.0, 1.02, 1.01, 1.01)]), 0.01) is None
    assert launches_to_decide(ratio([pair(1.0)] * 2), 0.01) is None


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_a_launch_raises_is_raised(raised):
    def fail(_number):
        raise raised

    with pytest.raises(raised):
        launch_until(fail, Patience(width=0.01), threads=1, smallest_effect=0.01)
