"""Properties of the statistics that hold for any samples."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records import Launch, PairLaunch
from bench.stats import keep_clean, latency, mean_interval, median_interval, ratio
from bench.types import Clock

UNTIMED = settings(deadline=None)
DURATIONS = st.integers(min_value=1_000, max_value=10**10)
WAITS = st.integers(0, 100_000) | st.sampled_from([19_999, 20_000, 20_001])
FLOATS = st.floats(min_value=1.0, max_value=1e10)
BLOCK = st.tuples(FLOATS, FLOATS, FLOATS, FLOATS)
PAIRS = st.lists(st.lists(BLOCK, min_size=1, max_size=20), min_size=1, max_size=8)
LAUNCHES = st.lists(st.lists(DURATIONS, min_size=1, max_size=40), min_size=1, max_size=6)


@UNTIMED
@given(st.lists(FLOATS, min_size=1, max_size=200))
def test_a_median_interval_holds_its_median_and_lies_within_the_samples(samples):
    found = median_interval(samples)
    assert found.value == float(np.median(samples))
    assert (found.low is None) == (found.high is None) == (len(samples) < 6)
    low, high = (found.value, found.value) if found.low is None else (found.low, found.high)
    assert min(samples) <= low <= found.value <= high <= max(samples)


@UNTIMED
@given(st.lists(FLOATS, min_size=3, max_size=50), st.randoms(use_true_random=False))
def test_order_does_not_matter(samples, random):
    shuffled = random.sample(samples, len(samples))
    assert median_interval(shuffled) == median_interval(samples)
    assert mean_interval(shuffled).value == pytest.approx(mean_interval(samples).value)


@UNTIMED
@given(st.lists(st.tuples(DURATIONS, WAITS), min_size=1))
def test_clean_keeps_exactly_what_did_not_wait(rows):
    kept, share = keep_clean([s for s, _ in rows], [w for _, w in rows])
    assert kept.tolist() == [s for s, w in rows if w <= 20_000]
    assert share == len(kept) / len(rows)


@UNTIMED
@given(LAUNCHES)
def test_latency_lies_within_its_samples_and_its_quantiles_are_ordered(samples):
    found = latency([Launch(samples_ns=tuple(launch)) for launch in samples], Clock.HOST)
    flat = [value / 1e6 for launch in samples for value in launch]
    slack = 1 + 1e-9
    for figure in (found.mean, found.p50.value, found.raw_p50, found.p90, found.p99):
        assert figure is None or min(flat) / slack <= figure <= max(flat) * slack
    known = [figure for figure in (found.p50.value, found.p90, found.p99) if figure is not None]
    assert known == sorted(known)
    assert found.samples == len(flat)


@UNTIMED
@given(LAUNCHES, st.integers(2, 1000))
def test_latency_scales_with_its_samples(samples, factor):
    once = latency([Launch(samples_ns=tuple(launch)) for launch in samples], Clock.HOST)
    more = latency([Launch(samples_ns=tuple(s * factor for s in launch)) for launch in samples], Clock.HOST)
    assert more.p50.value == pytest.approx(once.p50.value * factor)
    assert more.mean == pytest.approx(once.mean * factor)


@UNTIMED
@given(PAIRS)
def test_swapping_a_and_b_inverts_the_ratio(launches):
    forward = ratio([PairLaunch(blocks_ns=tuple(blocks)) for blocks in launches])
    swapped = ratio([PairLaunch(blocks_ns=tuple((b1, a1, a2, b2) for a1, b1, b2, a2 in blocks)) for blocks in launches])
    assert log(swapped.ratio) == pytest.approx(-log(forward.ratio), abs=1e-9)
    mirrored = {"slower": "faster", "faster": "slower", "same": "same", "inconclusive": "inconclusive"}
    assert swapped.verdict == mirrored[forward.verdict]


@UNTIMED
@given(PAIRS)
def test_a_model_against_itself_is_the_same_when_every_block_agrees(launches):
    same = [PairLaunch(blocks_ns=tuple((a, a, a, a) for a, *_ in blocks)) for blocks in launches]
    found = ratio(same)
    assert found.ratio == 1.0
    assert found.verdict == ("same" if len(launches) >= 3 else "inconclusive")


@UNTIMED
@given(PAIRS, st.floats(min_value=0.1, max_value=10))
def test_the_ratio_does_not_depend_on_the_unit_of_time(launches, unit):
    forward = ratio([PairLaunch(blocks_ns=tuple(blocks)) for blocks in launches])
    scaled = ratio([PairLaunch(blocks_ns=tuple(tuple(d * unit for d in b) for b in blocks)) for blocks in launches])
    assert scaled.ratio == pytest.approx(forward.ratio, rel=1e-9)
