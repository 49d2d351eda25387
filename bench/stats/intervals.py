"""The two intervals everything else is made of: order statistics for a median, Student's t for a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MIN_LAUNCHES = 3
"""Independent repetitions a claim needs; with fewer there is a value and no interval."""

Values = Sequence[float] | NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its two-sided 95 % interval, from `n` observations, all in one unit.

    `low` and `high` are both None where `n` is too small for such an interval to exist.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"half an interval: {self}")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"the interval does not hold the value: {self}")


def median_interval(samples: Values) -> Estimate:
    """Median of independent samples with its distribution-free interval [x_(k), x_(n+1-k)].

    k is the largest rank with P(Binomial(n, 1/2) <= k - 1) <= 2.5 %, so coverage is at least
    95 % for every continuous distribution (W. J. Conover, Practical Nonparametric Statistics,
    3rd ed., section 3.2). Below 6 samples no such k exists. The samples of one process are not
    independent of where its buffers landed: this is the precision within that launch only.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        raise ValueError("the median of no samples")
    value = float(np.median(ordered))
    k = median_rank(n)
    if k == 0:
        return Estimate(value=value, low=None, high=None, n=n)
    return Estimate(value=value, low=float(ordered[k - 1]), high=float(ordered[n - k]), n=n)


def median_rank(n: int) -> int:
    """The 1-based rank k of `median_interval`; 0 where `n` has none."""
    from scipy.special import bdtr

    tail = (1 - CONFIDENCE) / 2
    guess = max(0, int(n / 2 - np.sqrt(n)) - 1)
    k = guess if guess and bdtr(guess - 1, n, 0.5) <= tail else 0
    while k < n and bdtr(k, n, 0.5) <= tail:
        k += 1
    return k


def mean_interval(values: Values) -> Estimate:
    """Mean of independent values with Student's interval mean -+ t(0.975, n-1) s / sqrt(n).

    No interval below 3 values: that few launches support no claim (Kalibera & Jones, Rigorous
    Benchmarking in Reasonable Time, ISMM 2013, ask for the highest level to be repeated).
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 0:
        raise ValueError("the mean of no values")
    value = float(array.mean())
    if n < MIN_LAUNCHES:
        return Estimate(value=value, low=None, high=None, n=n)
    half = t_quantile(n - 1) * float(array.std(ddof=1)) / float(np.sqrt(n))
    return Estimate(value=value, low=value - half, high=value + half, n=n)


TRIMMED = 10
"""One value of so many is left out at each end of a `trimmed_interval`."""


def trimmed_interval(values: Values) -> Estimate:
    """Mean without the floor(n/10) smallest and largest of n independent values, with its interval.

    mean -+ t(0.975, n - 2g - 1) s_w / ((1 - 2g/n) sqrt(n)), g values being left out at each end and s_w the deviation
    of all with these replaced by the nearest that stay (J. W. Tukey and D. H. McLaughlin, Sankhya A 25, 1963). Below 10
    values g is 0: this is `mean_interval`. ValueError: no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    cut = n // TRIMMED
    if cut == 0:
        return mean_interval(ordered)
    value = float(ordered[cut : n - cut].mean())
    deviation = float(np.clip(ordered, ordered[cut], ordered[n - 1 - cut]).std(ddof=1))
    half = t_quantile(n - 2 * cut - 1) * deviation / ((1 - 2 * cut / n) * float(np.sqrt(n)))
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def t_quantile(degrees: float) -> float:
    """Student's t that leaves 2.5 % above it."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - (1 - CONFIDENCE) / 2))
