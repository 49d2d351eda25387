"""How a level of a series compares with the one before it, and whether one new value fits the level."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np

from bench.stats.intervals import Estimate, t_quantile

FEWEST = 3
"""Values before a change that its size needs, and the fewest that one new value can be judged by."""


def level_ratio(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """Geometric mean after over before, with Student's 95 % interval on logarithms and a pooled deviation.

    Pooled (2 values after a step have no deviation of their own worth the name): both levels are taken to scatter
    alike. All values are above 0. No interval with fewer than 3 values before or 2 after.
    """
    old, new = np.log(before), np.log(after)
    value = float(new.mean() - old.mean())
    if len(old) < FEWEST or len(new) < 2:
        return Estimate(value=exp(value), low=None, high=None, n=len(old) + len(new))
    degrees = len(old) + len(new) - 2
    squares = float(((old - old.mean()) ** 2).sum() + ((new - new.mean()) ** 2).sum())
    half = t_quantile(degrees) * sqrt(squares / degrees * (1 / len(old) + 1 / len(new)))
    return Estimate(value=exp(value), low=exp(value - half), high=exp(value + half), n=len(old) + len(new))


def newest_p(before: Sequence[float], newest: float) -> float:
    """Two-sided p of one new value against a level: the larger of a normal and of an exponential tail's, on logarithms.

    Normal: Student's prediction t, (x - mean) / (s sqrt(1 + 1/n)) with n - 1 degrees of freedom. Exponential: where the
    distances from the other end of the level are, one lies r times as far as the range with probability n B(r + 1, n),
    the mean of exp(-r M) over the largest M of n. 1 with fewer than 3 values; 0 or 1 where all are equal.
    """
    from scipy.special import beta, stdtr

    old = np.log(before)
    if len(old) < FEWEST:
        return 1.0
    deviation, apart = float(old.std(ddof=1)), abs(log(newest) - float(old.mean()))
    if deviation <= 1e-12:
        return 1.0 if apart <= 1e-9 else 0.0
    normal = 2 * float(stdtr(len(old) - 1, -apart / (deviation * sqrt(1 + 1 / len(old)))))
    reach = max(log(newest) - float(old.min()), float(old.max()) - log(newest))
    return max(normal, len(old) * float(beta(reach / float(np.ptp(old)) + 1, len(old))))


def pass_false_discoveries(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which hypotheses to reject so that at most `rate` of the rejected are expected to be true.

    Benjamini and Hochberg, J. Royal Statistical Society B 57 (1995). Where all are true, anything is rejected with
    probability `rate` at most.
    """
    from scipy.stats import false_discovery_control

    if not p_values:
        return []
    return [bool(adjusted <= rate) for adjusted in false_discovery_control(p_values)]
