"""Old records lose most of their raw samples and none of their figures."""

from __future__ import annotations

import numpy as np
import pytest
from fake_records import record

from bench.records import Launch, PairLaunch
from bench.regress.thin import THINNED, thin
from bench.report.table import compute_row
from bench.store.codec import pack_record, unpack_record

SAME = ("latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms", "speedup", "speedup_low", "speedup_high")


def whole(samples=1500, preempted=0.1, blocks=40):
    random = np.random.default_rng(1)

    def launch():
        waits = np.where(random.random(samples) < preempted, 500_000, 0)
        taken = (1e6 * np.exp(random.normal(0, 0.05, samples))).astype(int) + waits
        return Launch(samples_ns=tuple(taken.tolist()), waits_ns=tuple(waits.tolist()))

    def pair():
        rows = 1e6 * np.exp(random.normal(0, 0.05, (blocks, 4))) * [1, 1.2, 1.2, 1]
        waits = np.where(random.random((blocks, 4)) < preempted, 30_000, 0)
        return PairLaunch(blocks_ns=tuple(map(tuple, rows.tolist())), waits_ns=tuple(map(tuple, waits.tolist())))

    return record(
        "r",
        recipe="pruned",
        baseline_key="base",
        launches=tuple(launch() for _ in range(5)),
        pairs=tuple(pair() for _ in range(5)),
    )


@pytest.mark.parametrize("preempted", [0.0, 0.1, 0.999])
@pytest.mark.parametrize("blocks", [40, 41])
def test_medians_speed_ups_and_their_intervals_stay(preempted, blocks):
    before = whole(preempted=preempted, blocks=blocks)
    after = thin(before)
    row, thinner = compute_row(before, None), compute_row(after, None)
    for name in SAME:
        assert thinner.get(name) == pytest.approx(row.get(name), rel=1e-5), name
    assert thinner["latency_p90_ms"] == pytest.approx(row["latency_p90_ms"], rel=0.01)
    assert thinner["clean_share"] is None
    assert "quantiles" in after.missing["clean_share"]


def test_it_is_smaller_says_so_and_is_thinned_once():
    before = whole()
    after = thin(before)
    assert len(pack_record(after)) < len(pack_record(before)) / 5
    assert after.facts[THINNED] == "7500 raw samples"
    assert thin(after) == after
    assert unpack_record(pack_record(after), "here") == after


def test_a_cell_without_samples_stays_as_it_is():
    before = record("r")
    after = thin(before)
    assert (after.launches, after.pairs) == (before.launches, before.pairs)
