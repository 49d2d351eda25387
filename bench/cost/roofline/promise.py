"""What a compressed file promises: multiply-accumulates, and of a quantized one bytes and bit operations."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records import Record
from bench.types import Cost, Precision

BITS: dict[str, tuple[int, int]] = {
    "float32": (32, 32),
    "float16": (16, 16),
    "bfloat16": (16, 16),
    "int16": (8, 16),
    "int8": (8, 8),
}
"""Precision asked for -> bits of a weight and of an activation. Others do not fix both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Factors over the baseline, above 1 is better; None where they are not known.

    `macs`: nonzero multiply-accumulates. `bit_operations`: those times the bits of a weight times the bits of an
    activation (Baskin et al., UNIQ, arXiv:1804.10969); None unless the bits differ from the baseline's. `weights`:
    bits of all weights, as stored.
    """

    macs: float | None = None
    bit_operations: float | None = None
    weights: float | None = None


def promise_of(record: Record, baseline: Record | None) -> Promise:
    """What the deployed file of a record promises over that of its baseline."""
    if baseline is None or record.cost is None or baseline.cost is None:
        return Promise()
    macs = _macs_factor(baseline.cost, record.cost)
    before, after = bits_of(baseline.precision), bits_of(record.precision)
    if before is None or after is None or before == after:
        return Promise(macs=macs)
    stored = before[0] / after[0] * baseline.cost.params / record.cost.params if record.cost.params else None
    wide = before[0] * before[1] / (after[0] * after[1])
    return Promise(macs=macs, bit_operations=None if macs is None else macs * wide, weights=stored)


def bits_of(precision: Precision | None) -> tuple[int, int] | None:
    """Bits of a weight and of an activation as they were asked for; None where the precision does not fix both."""
    return BITS.get(precision.asked) if precision else None


def _macs_factor(before: Cost, after: Cost) -> float | None:
    if before.unknown or after.unknown or not after.nonzero_macs:
        return None
    return before.nonzero_macs / after.nonzero_macs
