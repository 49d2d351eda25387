"""Whether the int8 kernels that ran give the sums that the file asks for. Travels to the device with a session.

x86 kernels without VNNI add pairs of 8-bit products in 16 bits, which saturate: ONNX Runtime's documentation says so and has
`reduce_range` (7-bit weights) for them. A runtime that is made to compute a Q/DQ file in floats has sums that do not
saturate: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.device.session import Array

FAR = 0.1
"""Relative error of outputs from which kernels are said to compute something else: rounding by itself stays below."""


HARDLY_VARIES = 0.1
"""Least spread that counts, as a part of the root mean square: a step of int8 is small beside an output that is nearly always 1."""

FAR_IN_INTEGERS = 0.02
"""The same where both sums are integers: exact kernels differ by the rounding of floats only."""


SATURATED = (
    "as kernels of CPUs without VNNI do, whose sums saturate: give the backend the option reduce_range = true "
    "(in a target file, or `compress --option reduce_range=true`)"
)


def measure_inexact(ran: Sequence[Sequence[Array]], exact: Sequence[Sequence[Array]]) -> float:
    """How far the outputs that `ran` are from the `exact` ones, inference by inference: the largest root mean square of the
    difference over the spread, of the float outputs whose shapes agree."""
    worst = 0.0
    for found, wanted in zip(zip(*ran, strict=True), zip(*exact, strict=True), strict=True):
        if wanted[0].dtype.kind != "f" or any(a.shape != b.shape for a, b in zip(found, wanted, strict=True)):
            continue
        if not any(one.size for one in wanted):
            continue
        values = np.concatenate([one.ravel() for one in wanted])
        error = np.concatenate([one.ravel() for one in found]) - values
        size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
        spread = max(float(np.std(values, dtype=np.float64)), HARDLY_VARIES * size)
        if spread > 0:
            worst = max(worst, float(np.sqrt(np.mean(np.square(error, dtype=np.float64)))) / spread)
    return worst


def explain_inexact(
    ran: Sequence[Sequence[Array]], exact: Sequence[Sequence[Array]], least: float = FAR, why: str = SATURATED
) -> str:
    """How far the outputs that `ran` are from the `exact` ones, inference by inference, and why; "" up to `least`."""
    worst = measure_inexact(ran, exact)
    if worst <= least:
        return ""
    return f"the int8 kernels that ran give outputs that are {worst:.2g} of their spread away from the file's own sums, {why}"
