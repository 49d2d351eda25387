"""Laws of the statistics, each against a formula or a case worked by hand."""

from __future__ import annotations

from math import comb, exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from bench.records import EnergyWindow, Launch, PairLaunch, Score
from bench.stats import (
    Estimate,
    energy_of,
    energy_per_inference,
    keep_clean,
    latency,
    mean_interval,
    median_interval,
    ratio,
)
from bench.stats.energy import resolution_share
from bench.stats.intervals import median_rank, trimmed_interval
from bench.stats.quality import score_drop_interval
from bench.types import Clock

T_975 = {2: 4.302652729, 4: 2.776445105, 9: 2.262157163, 19: 2.093024054}
"""Student's t, 97.5 %, from printed tables."""


def slow_rank(n: int) -> int:
    """The rank straight from its definition, in exact integers."""
    rank = 0
    while sum(comb(n, i) for i in range(rank + 1)) * 40 <= 2**n:
        rank += 1
    return rank


def window(**values: float) -> EnergyWindow:
    base = {"joules": 30.0, "seconds": 2.0, "inferences": 100, "idle_joules": 10.0, "idle_seconds": 1.0}
    return EnergyWindow(meter="rapl", source="measured:rapl", **{**base, **values})


def pair(ratio_ab: float, blocks: int = 20, waits: tuple[tuple[int, int, int, int], ...] = ()) -> PairLaunch:
    return PairLaunch(blocks_ns=((1000.0, 1000.0 * ratio_ab, 1000.0 * ratio_ab, 1000.0),) * blocks, waits_ns=waits)


def test_the_rank_of_a_median_interval_is_the_largest_the_binomial_allows():
    assert [median_rank(n) for n in range(1, 300)] == [slow_rank(n) for n in range(1, 300)]


def test_the_rank_of_a_median_interval_holds_for_large_n():
    assert median_rank(100_000) == 49_690  # n/2 - 1.96 * sqrt(n)/2 = 49,690.1


def test_five_samples_have_no_median_interval_and_six_have_their_range():
    assert median_interval([3, 1, 2, 5, 4]) == Estimate(value=3, low=None, high=None, n=5)
    assert median_interval([3, 1, 2, 5, 4, 6]) == Estimate(value=3.5, low=1, high=6, n=6)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_a_mean_interval_is_students(n):
    values = [float(i * i) for i in range(n)]
    mean = sum(values) / n
    half = T_975[n - 1] * sqrt(sum((value - mean) ** 2 for value in values) / (n - 1)) / sqrt(n)
    found = mean_interval(values)
    assert found.low == pytest.approx(mean - half)
    assert found.high == pytest.approx(mean + half)


def test_two_values_support_no_claim():
    assert mean_interval([1.0, 2.0]) == Estimate(value=1.5, low=None, high=None, n=2)


def test_an_estimate_without_its_value_inside_is_refused():
    with pytest.raises(ValueError, match="does not hold"):
        Estimate(value=3, low=1, high=2, n=9)
    with pytest.raises(ValueError, match="half"):
        Estimate(value=3, low=1, high=None, n=9)


def test_a_sample_that_waited_more_than_the_limit_is_dropped_and_the_limit_itself_is_not():
    kept, share = keep_clean([10, 20, 30, 40], [0, 20_000, 20_001, 5])
    assert kept.tolist() == [10, 20, 40]
    assert share == 0.75


def test_without_waits_everything_stays_and_nobody_claims_it_was_clean():
    kept, share = keep_clean([10, 20], [])
    assert kept.tolist() == [10, 20]
    assert share is None


def test_waits_that_do_not_match_their_samples_are_a_bug():
    with pytest.raises(ValueError, match="1 waits for 2 samples"):
        keep_clean([1, 2], [1])


def test_preempted_samples_leave_the_clean_median_alone_and_show_in_the_raw_one():
    samples, waits = (1_000_000,) * 40 + (9_000_000,) * 60, (0,) * 40 + (5_000_000,) * 60
    found = latency([Launch(samples_ns=samples, waits_ns=waits)] * 3, Clock.HOST)
    assert (found.p50.value, found.raw_p50, found.clean_share, found.basis) == (1.0, 9.0, 0.4, "clean")
    assert (found.samples, found.mean) == (120, 1.0)


def test_a_launch_with_too_few_clean_samples_makes_all_figures_raw():
    good = Launch(samples_ns=(1_000_000,) * 50, waits_ns=(0,) * 50)
    bad = Launch(samples_ns=(2_000_000,) * 50, waits_ns=(0,) * 5 + (30_000,) * 45)
    found = latency([good, bad, good], Clock.HOST)
    assert (found.basis, found.samples, found.clean_share) == ("raw", 150, 105 / 150)


def test_the_median_is_over_launches_with_students_interval_on_logarithms():
    medians = [1.0, 1.1, 1.3]
    found = latency([Launch(samples_ns=(int(m * 1e6),) * 9) for m in medians], Clock.HOST).p50
    logs = [log(m) for m in medians]
    mean = sum(logs) / 3
    half = T_975[2] * sqrt(sum((value - mean) ** 2 for value in logs) / 2) / sqrt(3)
    assert found.value == 1.1
    assert (found.low, found.high, found.n) == (pytest.approx(exp(mean - half)), pytest.approx(exp(mean + half)), 3)


def test_two_launches_give_a_median_without_an_interval():
    found = latency([Launch(samples_ns=(1_000_000,) * 9)] * 2, Clock.HOST).p50
    assert (found.value, found.low, found.high) == (1.0, None, None)


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(28, False, False), (29, True, False), (298, True, False), (299, True, True)]
)
def test_a_quantile_is_given_only_where_its_95_percent_bound_exists(n, p90, p99):
    found = latency([Launch(samples_ns=tuple(range(1, n + 1)))], Clock.HOST)
    assert ((found.p90 is not None), (found.p99 is not None)) == (p90, p99)
    assert set(found.missing) == {name for name, given in (("p90", p90), ("p99", p99)) if not given}
    assert all(str(n) in reason for reason in found.missing.values())


def test_the_quantile_floors_are_the_least_n_whose_largest_sample_bounds_it():
    for q, n in ((0.9, 29), (0.99, 299)):
        assert 1 - q**n >= 0.95 > 1 - q ** (n - 1)


def test_a_device_clock_counts_instead_of_the_hosts():
    launch = Launch(samples_ns=(9_000_000,) * 10, device_ns=(2_000_000,) * 10)
    assert latency([launch], Clock.DEVICE).p50.value == 2.0
    assert latency([launch], Clock.HOST).p50.value == 9.0


def test_no_samples_of_the_clock_asked_for_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="device"):
        latency([Launch(samples_ns=(1,))], Clock.DEVICE)


def test_a_launch_that_left_no_samples_is_left_out():
    assert latency([Launch(samples_ns=()), Launch(samples_ns=(1_000_000,))], Clock.HOST).p50.n == 1


def test_a_linear_drift_cancels_in_abba_order():
    blocks = tuple(tuple(1000.0 + 50 * (4 * i + j) for j in range(4)) for i in range(20))
    assert ratio([PairLaunch(blocks_ns=blocks)] * 3).ratio == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.2, 1.21, 1.22], "slower"),
        ([0.5, 0.51, 0.5], "faster"),
        ([1.001, 0.999, 1.0], "same"),
        ([1.004, 1.005, 1.0045], "same"),
        ([0.9, 1.1, 1.0], "inconclusive"),
        ([1.008, 1.01, 1.012], "inconclusive"),
        ([0.985, 0.99, 0.992], "inconclusive"),
        ([1.5, 1.5], "inconclusive"),
    ],
)
def test_the_verdict_follows_the_interval(ratios, verdict):
    found = ratio([pair(value) for value in ratios])
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(exp(sum(map(log, ratios)) / len(ratios)))
    assert (found.launches, found.blocks) == (len(ratios), 20 * len(ratios))


def test_blocks_with_a_preempted_member_are_left_out_when_enough_clean_ones_stay():
    dirty = PairLaunch(
        blocks_ns=((1000.0, 2000.0, 2000.0, 1000.0),) * 6 + ((1000.0, 9000.0, 2000.0, 1000.0),) * 10,
        waits_ns=((0, 0, 0, 0),) * 6 + ((0, 25_000, 0, 0),) * 10,
    )
    found = ratio([dirty] * 3)
    assert (found.ratio, found.blocks, found.clean_share) == (pytest.approx(2.0), 18, 18 / 48)
    assert found.basis == "clean"


def preempted(factor, *, loops=1, clock=Clock.HOST):
    """A launch without a clean block, whose samples are longer by exactly what each waited."""
    random = np.random.default_rng(3)
    waits = random.integers(30_000, 9_000_000, (20, 4))
    blocks = np.array([1e6, factor * 1e6, factor * 1e6, 1e6]) + waits / loops
    return PairLaunch(
        blocks_ns=tuple(map(tuple, blocks.tolist())),
        waits_ns=tuple(map(tuple, waits.tolist())),
        loops=loops,
        clock=clock,
    )


@pytest.mark.parametrize("loops", [1, 3])
def test_the_wait_for_a_cpu_is_subtracted_where_too_few_blocks_are_clean(loops):
    found = ratio([preempted(1.25, loops=loops)] * 3)
    assert (found.ratio, found.basis, found.clean_share) == (pytest.approx(1.25), "corrected", 0.0)


@pytest.mark.parametrize(("clock", "threads"), [(Clock.HOST, 2), (Clock.DEVICE, 1)])
def test_waits_of_one_thread_say_nothing_of_several_or_of_a_device(clock, threads):
    found = ratio([preempted(1.25, clock=clock)] * 3, threads=threads)
    assert found.basis == "raw"
    assert found.ratio != pytest.approx(1.25, rel=0.01)


def test_blocks_count_as_they_are_where_the_waits_are_longer_than_the_samples():
    found = ratio([pair(2.0, waits=((0, 0, 0, 30_000),) * 17 + ((0, 0, 0, 0),) * 3)] * 3)
    assert (found.blocks, found.clean_share, found.basis) == (60, 3 / 20, "raw")


def test_the_worst_launch_names_the_basis():
    assert ratio([pair(1.25), pair(1.25), preempted(1.25)]).basis == "corrected"


def test_one_wild_launch_of_ten_does_not_decide():
    calm = [1.0, 1.001, 0.999, 1.002, 0.998, 1.001, 1.0, 0.999, 1.001]
    found = ratio([pair(value) for value in (*calm, 9.0)])
    assert found.ratio == pytest.approx(1.0, abs=0.002)
    assert found.high < 1.01
    assert ratio([pair(value) for value in (*calm[:8], 9.0)]).high > 1.1  # of nine, none is left out


def test_a_trimmed_interval_is_the_formula():
    values = [float(value) for value in range(1, 21)]
    found = trimmed_interval(values)
    kept = values[2:18]
    winsorized = [3.0, 3.0, *kept, 18.0, 18.0]
    half = stats.t.ppf(0.975, 15) * np.std(winsorized, ddof=1) / (0.8 * np.sqrt(20))
    assert found.value == pytest.approx(stats.trim_mean(values, 0.1))
    assert found.high - found.value == pytest.approx(half)
    assert trimmed_interval(values[:9]) == mean_interval(values[:9])
    with pytest.raises(ValueError, match="no values"):
        trimmed_interval([])


def test_nobody_claims_blocks_were_clean_where_the_kernel_does_not_say():
    assert ratio([pair(2.0)] * 3).clean_share is None


def test_speedup_is_the_inverse_with_its_interval_turned_round():
    found = ratio([pair(value) for value in (0.5, 0.51, 0.52)])
    assert found.speedup.value == pytest.approx(1 / found.ratio)
    assert found.low is not None
    assert found.high is not None
    assert (found.speedup.low, found.speedup.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


def test_durations_of_different_clocks_are_never_compared():
    with pytest.raises(ValueError, match="clocks"):
        ratio([pair(1.0), PairLaunch(blocks_ns=((1.0,) * 4,), clock=Clock.DEVICE)])


def test_a_duration_of_zero_is_refused():
    with pytest.raises(ValueError, match="not positive"):
        ratio([PairLaunch(blocks_ns=((0.0, 1.0, 1.0, 1.0),))])


def test_no_blocks_are_no_ratio():
    with pytest.raises(ValueError, match="no blocks"):
        ratio([PairLaunch(blocks_ns=())])


def test_energy_is_what_the_work_used_above_idle():
    found = energy_per_inference([window()])
    assert found.joules == Estimate(value=0.1, low=None, high=None, n=1)  # (30 - 10 W * 2 s) / 100
    assert (found.watts, found.idle_watts, found.source) == (15.0, 10.0, "measured:rapl")


@pytest.mark.parametrize("joules", [20.0, 19.0, 1.0])
def test_energy_that_is_not_above_idle_is_a_reason_not_a_figure(joules):
    found = energy_per_inference([window(joules=joules)])
    assert found.joules is None
    assert found.reason.startswith("below the meter's resolution")


def test_energy_whose_interval_holds_zero_is_a_reason_not_a_figure():
    found = energy_per_inference([window(joules=j) for j in (10.0, 21.0, 40.0)])
    assert found.joules is None
    assert "resolution" in found.reason


def test_windows_of_two_meters_are_never_summed():
    other = EnergyWindow(
        meter="nvml", source="measured:nvml", joules=1, seconds=1, inferences=1, idle_joules=0, idle_seconds=1
    )
    with pytest.raises(ValueError, match="several meters"):
        energy_per_inference([window(), other])


def test_the_energy_of_a_batch_is_shared_by_its_inputs():
    assert energy_of([], 1) is None
    one, eight = (energy_of([Launch(samples_ns=(1,), energy=(window(),) * 3)], batch) for batch in (1, 8))
    assert one is not None
    assert eight is not None
    assert one.joules is not None
    assert eight.joules is not None
    assert one.joules.value == pytest.approx(0.1)
    assert (eight.joules.value, eight.joules.high) == (pytest.approx(0.1 / 8), pytest.approx(0.1 / 8))
    assert eight.watts == one.watts


@pytest.mark.parametrize("windows", [[], [window(inferences=0)], [window(idle_seconds=0.0)]])
def test_no_usable_window_gives_a_reason(windows):
    found = energy_per_inference(windows)
    assert (found.joules, found.watts) == (None, None)
    assert found.reason


def test_longer_windows_weigh_more():
    found = energy_per_inference([window(), window(joules=60.0, seconds=4.0, inferences=300)])
    assert found.joules is not None
    assert found.joules.value == pytest.approx((10 + 20) / 400)
    assert np.isclose(found.watts or 0, 90 / 6)


def test_idle_power_is_the_mean_before_and_after():
    found = energy_per_inference([window(after_joules=20.0, after_seconds=1.0)])
    assert found.idle_watts == 15.0  # (10 J + 20 J) / (1 s + 1 s)
    assert found.joules is None  # 30 J at work is no more than idling for 2 s


def test_a_meter_that_stood_still_says_so_and_gives_no_power():
    found = energy_per_inference([window(joules=0.0, idle_joules=0.0)])
    assert (found.joules, found.watts) == (None, None)
    assert "stood still" in found.reason


def test_the_share_of_the_resolution_is_of_the_energy_above_idle():
    assert resolution_share([window(resolution_j=1.0)]) == pytest.approx(0.1)  # of 30 J - 10 W * 2 s
    assert resolution_share([window(joules=20.0, resolution_j=1.0)]) == 0.0


def test_a_score_beside_itself_is_no_worse_and_not_minus_zero():
    score = Score(name="RMSE", unit="", higher_is_better=False, value=2.5, without=(2.4, 2.6))
    found = score_drop_interval(score, score, 20)
    assert [str(found.value), str(found.low)] == ["0.0", "0.0"]
