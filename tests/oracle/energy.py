"""The statistic of E-divisive as its paper writes it, one sum at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

LEAST = 2


def energy(left: Sequence[float], right: Sequence[float]) -> float:
    """The sample energy distance with exponent 1, times n m / (n + m) (Matteson and James 2014, equations 5 and 6)."""
    n, m = len(left), len(right)
    between = 2 / (n * m) * sum(abs(x - y) for x in left for y in right)
    return n * m / (n + m) * (between - within(left) - within(right))


def within(values: Sequence[float]) -> float:
    """Mean distance of two different values."""
    pairs = [abs(x - y) for place, x in enumerate(values) for y in values[place + 1 :]]
    return sum(pairs) / comb(len(values), 2)


def best(values: Sequence[float]) -> tuple[int, float]:
    """The first point after the likeliest change, and its statistic: the largest over tau and kappa (equation 7)."""
    size = len(values)
    splits = (
        (tau, energy(values[:tau], values[tau:kappa]))
        for tau in range(LEAST, size - LEAST + 1)
        for kappa in range(tau + LEAST, size + 1)
    )
    return max(splits, key=lambda split: split[1])
