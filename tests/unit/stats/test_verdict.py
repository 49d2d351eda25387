"""The verdict on a ratio: an effect counts only beyond the smallest one of interest."""

from __future__ import annotations

import pytest

from bench.stats import decide_verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.001, 1.02, "inconclusive"),
        (1.001, 1.01, "same"),
        (1.0101, 1.02, "slower"),
        (1.01, 1.02, "inconclusive"),
        (0.97, 0.99, "faster"),
        (0.97, 0.9902, "inconclusive"),
        (1 / 1.01, 1.01, "same"),
        (0.9, 1.1, "inconclusive"),
        (None, None, "inconclusive"),
    ],
)
def test_an_effect_counts_where_the_whole_interval_lies_beyond_the_smallest(low, high, verdict):
    assert decide_verdict(low, high, 0.01) == verdict


def test_a_larger_smallest_effect_makes_the_same_of_what_was_slower():
    assert decide_verdict(1.02, 1.03, 0.01) == "slower"
    assert decide_verdict(1.02, 1.03, 0.05) == "same"
    assert decide_verdict(1.02, 1.06, 0.05) == "inconclusive"


@pytest.mark.parametrize(("low", "high"), [(1.001, 1.02), (1.02, 1.03), (0.995, 1.01), (1.0, 1.0), (0.5, 2.0)])
def test_the_inverse_ratio_has_the_mirrored_verdict(low, high):
    mirror = {"slower": "faster", "faster": "slower"}
    found = decide_verdict(low, high)
    assert decide_verdict(1 / high, 1 / low) == mirror.get(found, found)
