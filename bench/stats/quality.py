"""Intervals of accuracies, of scores, and of what a network loses, on the same test samples."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
from scipy.stats import norm, t

from bench.records import Quality, Score
from bench.stats.intervals import CONFIDENCE, Estimate

Z = float(norm.ppf((1 + CONFIDENCE) / 2))


def accuracy_interval(right: int, samples: int) -> Estimate:
    """The share of right answers, with Wilson's score interval (Wilson 1927)."""
    share = right / samples
    middle = (share + Z**2 / (2 * samples)) / (1 + Z**2 / samples)
    half = Z / (1 + Z**2 / samples) * sqrt(share * (1 - share) / samples + Z**2 / (4 * samples**2))
    low, high = max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
    return Estimate(value=share, low=low, high=high, n=samples)


def drop_interval(lost: int, gained: int, samples: int) -> Estimate:
    """The accuracy lost from one network to another on the same samples, a fraction.

    `lost`: samples that only the first has right; `gained`: only the second. The interval is Bonett and Price's
    adjusted one for paired proportions (2012, Psychometrika 77, 277-290), widened to hold the value.
    """
    value = (lost - gained) / samples
    p_lost, p_gained = (lost + 1) / (samples + 2), (gained + 1) / (samples + 2)
    middle = p_lost - p_gained
    half = Z * sqrt((p_lost + p_gained - middle**2) / (samples + 2))
    return Estimate(value=value, low=min(value, middle - half), high=max(value, middle + half), n=samples)


def score_interval(score: Score, samples: int) -> Estimate:
    """The score with the interval of a delete-a-group jackknife (Kott 2001, J. Official Statistics 17, 521-526); that of a
    fraction ends at 0 and 1."""
    found = _jackknife(score.value, score.without, samples)
    if score.unit != "fraction" or found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, min(0.0, found.value)), high=min(found.high, max(1.0, found.value)))


def score_drop_interval(before: Score, after: Score, samples: int) -> Estimate:
    """How much worse `after` is, in the score's unit, positive is worse. Both were judged on the same samples.

    The groups of both are the same, so the interval is that of the difference.
    """
    first, second = (before, after) if before.higher_is_better else (after, before)
    paired = len(before.without) == len(after.without)
    each = [one - other for one, other in zip(first.without, second.without, strict=paired)] if paired else []
    return _jackknife(first.value - second.value, each, samples)


def accuracy_of(quality: Quality) -> Estimate | None:
    """The accuracy with its interval; None without one, and without an interval for records that lack the samples."""
    if quality.accuracy is None:
        return None
    if not quality.labelled:
        return Estimate(value=quality.accuracy, low=None, high=None, n=0)
    found = accuracy_interval(round(quality.accuracy * quality.labelled), quality.labelled)
    return Estimate(value=quality.accuracy, low=found.low, high=found.high, n=found.n)


def _jackknife(value: float, without: tuple[float, ...] | list[float], samples: int) -> Estimate:
    groups = len(without)
    if groups < 2:
        return Estimate(value=value, low=None, high=None, n=samples)
    spread = float(np.sqrt((groups - 1) / groups * np.square(np.array(without) - np.mean(without)).sum()))
    half = float(t.ppf((1 + CONFIDENCE) / 2, groups - 1)) * spread
    return Estimate(value=value, low=value - half, high=value + half, n=samples)
