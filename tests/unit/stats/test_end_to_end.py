"""Rounds of a user's functions around an inference -> medians and their share."""

from __future__ import annotations

import pytest

from bench.records import EndToEnd
from bench.stats.end_to_end import split_time


def test_the_share_is_of_whole_rounds_and_medians_are_over_launches():
    one = EndToEnd(before_ns=(1_000_000,) * 3, infer_ns=(2_000_000,) * 3, after_ns=(1_000_000,) * 3)
    two = EndToEnd(before_ns=(3_000_000,) * 3, infer_ns=(2_000_000,) * 3, after_ns=(3_000_000,) * 3)
    found = split_time([one, two, one])
    assert (found.whole_ms, found.before_ms, found.after_ms, found.share) == (4.0, 1.0, 1.0, 0.5)


def test_rounds_that_waited_for_a_cpu_are_left_out_unless_all_did():
    times = {"before_ns": (1000, 9000), "infer_ns": (1000, 9000), "after_ns": (2000, 2000)}
    assert split_time([EndToEnd(**times, waits_ns=(0, 50_000))]).whole_ms == pytest.approx(0.004)
    assert split_time([EndToEnd(**times, waits_ns=(50_000, 50_000))]).whole_ms == pytest.approx(0.012)


def test_without_rounds_there_is_nothing():
    assert split_time([]) is None
    assert split_time([EndToEnd(before_ns=(), infer_ns=(), after_ns=())]) is None
