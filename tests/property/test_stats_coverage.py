"""The 95 % intervals hold the truth about 95 times in 100: simulated with fixed seeds."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from bench.line.versus.until import Patience, launch_until
from bench.records import Launch, PairLaunch
from bench.stats import latency, median_interval, ratio
from bench.types import Clock

ROUNDS = 1500
TOLERANCE = 0.02  # 3.5 standard errors of a share of 0.95 over 1,500 rounds


@pytest.mark.parametrize("n", [6, 15, 40, 101])
def test_a_median_interval_covers_at_least_95_percent_whatever_the_distribution(n):
    random = np.random.default_rng(n)
    truth = 1.0  # the median of this log-normal, far from its mean of e**2
    found = [median_interval(random.lognormal(0.0, 2.0, n)) for _ in range(ROUNDS)]
    covered = np.mean([e.low is not None and e.high is not None and e.low <= truth <= e.high for e in found])
    assert covered >= 0.95 - TOLERANCE


@pytest.mark.parametrize("launches", [3, 5, 20])
def test_the_interval_of_a_latency_covers_the_truth_although_launches_are_biased(launches):
    """Each launch is shifted by 1 %: an interval from its samples alone would miss nearly always."""
    random = np.random.default_rng(launches)
    hits = 0
    for _ in range(ROUNDS):
        shifts = 5e6 * np.exp(random.normal(0.0, 0.01, launches))
        samples = [tuple(int(s) for s in shift * np.exp(random.normal(0, 0.002, 9))) for shift in shifts]
        p50 = latency([Launch(samples_ns=s) for s in samples], Clock.HOST).p50
        hits += p50.low is not None and p50.high is not None and p50.low <= 5.0 <= p50.high
    assert hits / ROUNDS == pytest.approx(0.95, abs=TOLERANCE)


@pytest.mark.parametrize("truth", [1.0, 1.02, 0.4])
def test_the_interval_of_a_ratio_covers_the_truth_and_its_verdict_errs_no_more_than_promised(truth):
    random = np.random.default_rng(int(truth * 100))
    covered, wrong = 0, 0
    for _ in range(ROUNDS):
        pairs = []
        for shift in np.exp(random.normal(0.0, 0.008, 12)):
            noise = 5e6 * np.exp(random.normal(0.0, 0.02, (9, 4))) * [1, truth * shift, truth * shift, 1]
            pairs.append(PairLaunch(blocks_ns=tuple(tuple(row) for row in noise.tolist())))
        found = ratio(pairs)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
        wrong += found.verdict == ("faster" if truth > 1 else "slower")
    assert covered / ROUNDS == pytest.approx(0.95, abs=TOLERANCE)
    assert wrong / ROUNDS <= 0.025 + TOLERANCE


@pytest.mark.parametrize("shape", ["normal", "bimodal"])
def test_the_interval_still_covers_where_its_own_width_decides_how_many_launches_there_are(shape):
    random = np.random.default_rng(11)

    def draw(_number):
        noise = random.normal() if shape == "normal" else 0.95 * random.choice([-1, 1]) + 0.3 * random.normal()
        moved = float(np.exp(0.01 * noise))
        return PairLaunch(blocks_ns=((1e6, 1e6 * moved, 1e6 * moved, 1e6),))

    rounds, covered = 700, 0
    for _ in range(rounds):
        clock = count()
        done = launch_until(
            draw, Patience(width=0.005), threads=1, smallest_effect=0.01, now=lambda clock=clock: float(next(clock))
        )
        assert done.ratio.low is not None
        assert done.ratio.high is not None
        covered += done.ratio.low <= 1 <= done.ratio.high
    assert covered / rounds == pytest.approx(0.935, abs=0.03)
