"""Bits of layers by an integer program: the least loss at a cost, the fewest bits that fit, and no bit too many."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from bench.compress.quantize.bits import allocate, fewest_bits, take_off

Table = dict[str, dict[int, float]]


def draw(seed: int) -> tuple[Table, dict[str, int]]:
    """Four layers of two to eight bits, whose rises grow as bits go, and their multiplications."""
    generator = np.random.default_rng(seed)
    rises = {
        name: dict(zip(range(8, 1, -1), [0.0, *np.cumsum(generator.exponential(size=6)).tolist()], strict=True))
        for name in "abcd"
    }
    return rises, {name: int(generator.integers(1, 1000)) for name in rises}


def every_allocation(rises: Table) -> list[dict[str, int]]:
    return [dict(zip(rises, bits, strict=True)) for bits in itertools.product(*rises.values())]


def loss_of(rises: Table, bits: Mapping[str, int]) -> float:
    return sum(rises[name][count] for name, count in bits.items())


def cost_of(macs: Mapping[str, int], bits: Mapping[str, int]) -> int:
    return sum(macs[name] * count for name, count in bits.items())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.26, 0.5, 0.8, 1.0])
def test_no_allocation_of_that_cost_loses_less(seed: int, share: float) -> None:
    rises, macs = draw(seed)
    most = share * cost_of(macs, dict.fromkeys(rises, 8))
    found = allocate(rises, macs, most)
    assert cost_of(macs, found) <= most
    least = min(loss_of(rises, bits) for bits in every_allocation(rises) if cost_of(macs, bits) <= most)
    assert loss_of(rises, found) == pytest.approx(least, rel=1e-3)


def test_of_bits_that_lose_nothing_or_seem_to_help_the_fewest_are_taken() -> None:
    rises = {"a": {2: 0.0, 3: -0.5, 4: 0.0}, "b": {2: 1.0, 3: 0.0, 4: 0.0}}
    assert allocate(rises, {"a": 10, "b": 10}, 80) == {"a": 2, "b": 3}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_found_fits_costs_about_the_least_and_no_single_bit_can_go(seed: int) -> None:
    rises, macs = draw(seed)

    def fits(bits: Mapping[str, int]) -> bool:
        return loss_of(rises, bits) <= 6.0

    found = fewest_bits(rises, macs, fits)
    assert fits(found)
    least = min(cost_of(macs, bits) for bits in every_allocation(rises) if fits(bits))
    assert cost_of(macs, found) <= 1.02 * least
    assert not any(fits({**found, name: bits - 1}) for name, bits in found.items() if bits > 2)


def test_bits_that_a_step_after_another_would_miss_are_found() -> None:
    """The cheapest bit by itself is that of `a`, after which `b`, which multiplies most, can lose none."""
    rises = {"a": {4: 1.0, 8: 0.0}, "b": {4: 10.0, 8: 0.0}}
    macs = {"a": 100, "b": 900}

    def fits(bits: Mapping[str, int]) -> bool:
        return loss_of(rises, bits) <= 10.5

    assert take_off({"a": 8, "b": 8}, rises, macs, fits) == {"a": 4, "b": 8}
    assert fewest_bits(rises, macs, fits) == {"a": 8, "b": 4}


def test_what_fits_with_all_bits_only_keeps_them() -> None:
    rises, macs = draw(0)
    asked = []

    def fits(bits: Mapping[str, int]) -> bool:
        asked.append(dict(bits))
        return False

    assert fewest_bits(rises, macs, fits) == dict.fromkeys(rises, 8)
    assert len(asked) <= 8 + len(rises)
    assert fewest_bits({"a": {5: 0.0}}, {"a": 3}, fits) == {"a": 5}


def test_the_cheapest_bit_goes_first_and_a_layer_that_costs_too_much_is_left() -> None:
    """`b` loses little for each multiplication; `a` may lose one bit; `c` none."""
    rises = {"a": {4: 0.0, 3: 1.0, 2: 5.0}, "b": {4: 0.0, 3: 2.0, 2: 4.0}, "c": {4: 0.0, 3: 9.0, 2: 10.0}}
    tried: list[Mapping[str, int]] = []

    def fits(bits: Mapping[str, int]) -> bool:
        tried.append(bits)
        return bits["a"] >= 3 and bits["c"] == 4

    found = take_off({"a": 4, "b": 4, "c": 4}, rises, {"a": 10, "b": 100, "c": 10}, fits)
    assert found == {"a": 3, "b": 2, "c": 4}
    assert tried[:3] == [{"a": 4, "b": 3, "c": 4}, {"a": 4, "b": 2, "c": 4}, {"a": 3, "b": 2, "c": 4}]
    assert len(tried) == 5
