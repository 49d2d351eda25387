"""A roofline: the least time a layer can take on a device, from what the backend itself reached on large kernels.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model, CACM 52 (2009), with the cost
of starting a kernel added: it rules small networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.cost.roofline.promise import bits_of
from bench.records import Record
from bench.types import LayerCost

RULES = 0.5
"""A limit rules a network where it bounds so large a part of the predicted time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What one backend reached on one device. `macs_per_s`: precision -> multiply-accumulates per second.

    `bytes_per_s`: of reading weights that no cache holds. `node_s`: seconds that one more node costs.
    `call_s`: seconds of an inference that computes next to nothing.
    """

    device: str
    backend: str
    version: str
    macs_per_s: Mapping[str, float]
    bytes_per_s: float
    node_s: float
    call_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBound:
    """The least seconds a layer takes, and which limit sets them: "arithmetic", "memory" or "call"."""

    name: str
    seconds: float
    limit: str


def bound_layers(record: Record, roofline: Roofline) -> list[LayerBound]:
    """Each layer of the deployed file that computes or reads weights, at batch 1, in graph order."""
    asked = record.precision.asked if record.precision else "float32"
    peak = roofline.macs_per_s.get(asked) or roofline.macs_per_s.get("float32")
    layers: tuple[LayerCost, ...] = record.cost.layers if record.cost else ()
    if not peak:
        return []
    width = (bits_of(record.precision) or (32, 32))[1] / 32
    found = []
    for layer in layers:
        moved = layer.weight_bytes + width * layer.activation_bytes
        limits = {"arithmetic": layer.macs / peak, "memory": moved / roofline.bytes_per_s, "call": roofline.node_s}
        limit = max(limits, key=lambda name: limits[name])
        found.append(LayerBound(name=layer.name, seconds=limits[limit], limit=limit))
    return found


def describe_bound(record: Record, roofline: Roofline) -> str:
    """Which limit other than arithmetic rules the predicted time of a whole inference; "" where none does."""
    bounds = bound_layers(record, roofline)
    total = roofline.call_s + sum(bound.seconds for bound in bounds)
    if not bounds or total <= 0:
        return ""
    calls = roofline.call_s + sum(bound.seconds for bound in bounds if bound.limit == "call")
    memory = sum(bound.seconds for bound in bounds if bound.limit == "memory")
    if calls > RULES * total:
        return f"call overhead: {100 * calls / total:.0f} % of the least time is starting {len(bounds)} kernels"
    if memory > RULES * total:
        return f"memory-bound: {100 * memory / total:.0f} % of the least time is reading weights and activations"
    return ""
