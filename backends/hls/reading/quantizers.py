"""What the quantizing operators of QONNX do to a value, by their specification.

Source: github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from backends.hls.design import Array, Fixed
from backends.hls.reading.graph import attributes, refuse

DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
"""The domains of QONNX's operators: Brevitas' of old, today's, and that of FINN before."""
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")
ROUNDINGS = {"ROUND": "half_even", "HALF_EVEN": "half_even", "FLOOR": "floor"}
WIDEST, WIDEST_STORED = 24, 32
"""Bits of a value on the FPGA, and of stored numbers: Brevitas gives biases 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """x -> `scale` * q: q is x / `step`, rounded and saturated as `type`, or its sign where that is None.

    Both as the file stores them, to be broadcast against x. They differ for a `Trunc` only, which drops bits.
    """

    step: Array
    scale: Array
    type: Fixed | None

    def integers(self, values: Array) -> Array:
        """The whole numbers of stored values."""
        steps = np.asarray(values, np.float64) / self.step
        return np.where(steps >= 0, 1.0, -1.0) if self.type is None else self.type.quantize(steps)


def read_quantizer(node: NodeProto, stored: Sequence[Array | None], source: Fixed | None = None) -> Quantizer:
    """The quantizer of a node. `stored`: its inputs, None where computed. `source`: the type that a `Trunc` reads.

    Raises `Unsupported` for a parameter that is computed, a zero point, a width or rounding that has no form here.
    """
    parameters = stored[1:]
    if any(one is None for one in parameters):
        raise refuse(node, "with a scale or a width that is computed")
    scale, *others = (np.asarray(one, np.float64) for one in parameters)
    if not (scale > 0).all():
        raise refuse(node, "with a scale that is not above 0")
    if node.op_type == "BipolarQuant":
        return Quantizer(step=scale, scale=scale, type=None)
    if np.any(others[0]):
        raise refuse(node, "with a zero point other than 0")
    usual = b"FLOOR" if node.op_type == "Trunc" else b"ROUND"
    found: dict[str, Any] = {"signed": 1, "narrow": 0, "rounding_mode": usual}
    found |= attributes(node)
    rounding = ROUNDINGS.get(found["rounding_mode"].decode().upper())
    if rounding is None:
        raise refuse(node, f"with rounding_mode {found['rounding_mode'].decode()}")
    if node.op_type == "Trunc":
        return _read_trunc(node, scale, others, rounding, found, source)
    width = _width(node, others[1], WIDEST if stored[0] is None else WIDEST_STORED)
    signed, narrow = bool(found["signed"]), bool(found["narrow"])
    if width == 1 and signed:
        return Quantizer(step=scale, scale=scale, type=None)
    if narrow and not signed:
        raise refuse(node, "of a narrow range without sign")
    return Quantizer(step=scale, scale=scale, type=Fixed(width, width, signed, narrow, rounding))


def _read_trunc(
    node: NodeProto,
    scale: Array,
    others: Sequence[Array],
    rounding: str,
    found: Mapping[str, Any],
    source: Fixed | None,
) -> Quantizer:
    """Version 1 drops as many bits as the two widths differ by and keeps the scale; version 2 names the new scale."""
    if len(others) > 3:
        dropped = float(np.round(np.log2(others[2] / scale)).max())
        width = _width(node, others[3])
        kind = Fixed(width, width, bool(found["signed"]), bool(found["narrow"]), rounding)
        return Quantizer(step=scale * 2.0**dropped, scale=others[2], type=kind)
    dropped = _width(node, others[1]) - _width(node, others[2])
    signed = source is None or source.signed
    width = _width(node, others[2]) + signed
    return Quantizer(step=scale * 2.0**dropped, scale=scale, type=Fixed(width, width, signed, False, rounding))


def _width(node: NodeProto, stored: Array, widest: int = WIDEST) -> int:
    width = float(stored.max())
    if stored.size != 1 or width != math.floor(width) or not 1 <= width <= widest:
        raise refuse(node, f"of {width:g} bits (1 to {widest} whole bits for all of a tensor are taken)")
    return int(width)
