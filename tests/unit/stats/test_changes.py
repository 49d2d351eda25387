"""Change points of a series: the statistic is the paper's, the steps are found, quiet series stay quiet."""

from __future__ import annotations

import numpy as np
import pytest
from oracle.energy import best

from bench.stats.changes import LEVEL, Orders, best_split, find_changes, search
from bench.stats.splits import make_searches


@pytest.mark.parametrize("size", [4, 5, 7, 12, 25])
@pytest.mark.parametrize("shape", ["normal", "skewed", "two_levels", "ties"])
def test_the_best_split_is_the_one_of_the_formula(size, shape):
    random = np.random.default_rng(size)
    values = {
        "normal": random.normal(5, 1, size),
        "skewed": random.lognormal(0, 1, size),
        "two_levels": np.r_[random.normal(1, 0.01, size - 2), random.normal(2, 0.01, 2)],
        "ties": random.integers(0, 3, size).astype(float),
    }[shape]
    index, statistic = best(values.tolist())
    found = best_split(values)
    if statistic <= 1e-12:
        assert found is None
        return
    assert found.statistic == pytest.approx(statistic, rel=1e-9, abs=1e-12)
    assert found.index == index or shape == "ties"


@pytest.mark.parametrize("size", [4, 5, 24, 26, 60, 365])
def test_orders_searched_together_have_the_statistic_of_each_to_five_digits(size):
    random = np.random.default_rng(size)
    orders = random.normal(0, 0.2, size).astype(np.float32)[np.stack([random.permutation(size) for _ in range(5)])]
    search_all = make_searches(size, 8)
    for _ in range(3):  # what an earlier search left behind changes nothing
        found = search_all(orders)
    each = [max(search(one.astype(np.float64)).statistic, 0) for one in orders]
    assert found.tolist() == pytest.approx(each, rel=2e-5, abs=1e-7)
    assert search_all(orders[:2]).tolist() == pytest.approx(found[:2].tolist(), rel=2e-5)


def test_changes_whose_probability_is_not_wanted_are_the_same_changes():
    random = np.random.default_rng(8)
    for _ in range(20):
        values = random.normal(1, 0.01, 60)
        values[20:] += random.choice([0, 0.008, 0.05])
        values[45:] += random.choice([0, 0.008, 0.05])
        exact, quick = find_changes(values), find_changes(values, exact_from=45)
        assert [one.index for one in quick] == [one.index for one in exact]
        assert [one.p for one in quick if one.index >= 45] == [one.p for one in exact if one.index >= 45]


def test_a_test_that_is_not_clear_goes_by_all_orders():
    random = np.random.default_rng(9)
    values = random.normal(0, 1, 40)
    values[30:] += 0.9
    reached, own = 0, search(values).statistic
    for _ in range(2000):
        reached += search(random.permutation(values)).statistic >= own
    p = Orders(values, np.random.default_rng(0)).p(30)
    assert 0.3 < p / (reached / 2000) < 3
    assert Orders(values, np.random.default_rng(0)).reject(10 * p)
    assert not Orders(values, np.random.default_rng(0)).reject(p / 10)


def test_a_step_of_two_per_cent_is_found_where_it_is():
    random = np.random.default_rng(1)
    for _ in range(10):
        values = random.normal(1, 0.005, 80)
        values[60:] *= 1.02
        (change,) = find_changes(values)
        assert abs(change.index - 60) <= 1
        assert change.p < 1e-4


def test_a_spike_that_ends_is_two_changes():
    values = np.random.default_rng(2).normal(1, 0.005, 90)
    values[40:60] *= 1.05
    assert {40, 60} <= {change.index for change in find_changes(values)}


def test_each_of_three_levels_is_found():
    values = np.random.default_rng(3).normal(1, 0.01, 90)
    values[30:] += 0.1
    values[60:] += 0.1
    assert [change.index for change in find_changes(values)] == [30, 60]


def test_quiet_series_reject_as_often_as_the_level_says():
    random = np.random.default_rng(4)
    wrong = sum(bool(find_changes(random.lognormal(0, 0.5, 40))) for _ in range(200))
    assert wrong / 200 <= LEVEL + 0.025  # over three standard errors


def test_p_is_never_below_what_chance_does_to_so_few_points():
    values = np.r_[np.random.default_rng(5).normal(1, 0.001, 20), 2.0, 2.0]
    assert Orders(values, np.random.default_rng(0)).p(20) >= 2 / 231


def test_the_same_seed_gives_the_same_answer():
    values = np.random.default_rng(6).normal(1, 0.01, 50)
    values[30:] += 0.008
    assert find_changes(values, seed=3) == find_changes(values, seed=3)


def test_a_change_does_not_depend_on_unit_or_offset():
    values = np.random.default_rng(7).normal(1, 0.01, 50)
    values[30:] += 0.05
    assert [c.index for c in find_changes(1e6 * values + 7)] == [c.index for c in find_changes(values)]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 2.0], [5.0] * 30])
def test_few_or_equal_points_have_no_change(values):
    assert find_changes(values) == []


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        find_changes([1.0, float("nan"), 2.0, 3.0])
