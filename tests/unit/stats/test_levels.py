"""The size of a change, one new night against a level, and false discoveries: against SciPy and the formulas."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from scipy import stats

from bench.stats.levels import level_ratio, newest_p, pass_false_discoveries


def test_the_ratio_of_levels_is_students_pooled_interval_on_logarithms():
    random = np.random.default_rng(0)
    before, after = random.lognormal(0, 0.01, 20), random.lognormal(0.02, 0.01, 6)
    found = level_ratio(before, after)
    wanted = stats.ttest_ind(np.log(after), np.log(before)).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(exp(wanted.low)), pytest.approx(exp(wanted.high)))
    assert found.value == pytest.approx(exp(np.log(after).mean() - np.log(before).mean()))


def test_its_interval_holds_the_truth_95_times_in_100():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        found = level_ratio(np.exp(random.normal(0, 0.01, 12)), np.exp(random.normal(log(1.02), 0.01, 4)))
        held += found.low <= 1.02 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("before", "after"), [([1.0, 1.1], [1.0, 1.0]), ([1.0, 1.1, 1.2], [1.0])])
def test_too_few_values_have_a_ratio_without_an_interval(before, after):
    found = level_ratio(before, after)
    assert (found.low, found.high) == (None, None)


def test_one_new_value_is_judged_by_the_heavier_tail():
    before = [1.0, 1.02, 0.98, 1.01, 0.99]
    logs = np.log(before)
    largest = np.random.default_rng(3).exponential(1, (200_000, 5)).max(axis=1)
    for newest in (1.1, 1.0):
        t = (log(newest) - logs.mean()) / (logs.std(ddof=1) * (1 + 1 / 5) ** 0.5)
        reach = max(log(newest) - logs[2], logs[1] - log(newest)) / np.ptp(logs)
        tail = float(np.exp(-largest * reach).mean())
        assert newest_p(before, newest) == pytest.approx(max(tail, 2 * stats.t.sf(abs(t), 4)), rel=0.05)


@pytest.mark.parametrize("shape", ["normal", "exponential", "laplace"])
def test_p_of_a_new_value_is_no_smaller_than_chance_where_nothing_changed(shape):
    random = np.random.default_rng(5)
    noise = {
        "normal": random.normal,
        "exponential": lambda _, s, n: random.exponential(s, n),
        "laplace": random.laplace,
    }
    drawn = np.exp(noise[shape](0, 0.01, (1500, 21)))
    found = np.array([newest_p(row[:20], row[20]) for row in drawn])
    for level in (0.001, 0.01):
        assert (found <= level).mean() <= level + 3 * (level / 1500) ** 0.5


def test_a_level_without_scatter_fits_itself_only():
    assert newest_p([2.0] * 5, 2.0) == 1.0
    assert newest_p([2.0] * 5, 2.1) == 0.0
    assert newest_p([2.0] * 2, 3.0) == 1.0


def test_false_discoveries_are_bounded_as_benjamini_and_hochberg_say():
    p = [0.01, 0.02, 0.03, 0.5]
    assert pass_false_discoveries(p, 0.05) == [True, True, True, False]
    assert pass_false_discoveries([0.02, 0.5, 0.6, 0.7], 0.05) == [False] * 4
    assert pass_false_discoveries([], 0.05) == []
