"""A roofline: the least time a layer can take on a device, from what the backend itself reached on large kernels.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model, CACM 52 (2009), with the cost
of starting a kernel added: it rules small networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod

from pydantic import TypeAdapter, ValidationError

from bench.cost.roofline.match import list_multiplying
from bench.cost.roofline.promise import bits_of
from bench.records import Record
from bench.types import Json

RULES = 0.5
"""A limit rules a network where it bounds so large a part of the predicted time, and that so large a part of the measured."""
ARITHMETIC = {"weight_only": "float32"}
"""Precision asked for -> the one it multiplies in, where that is another."""
FACT = "roofline"
"""Where the facts of a record keep the roofline of its device."""
NODE, CALL = "a node", "a call"
"""Names of two figures in `absent` and `unsettled`; the others are precisions and texts of `name_size`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What one backend reached on one device. `macs_per_s`: precision -> multiply-accumulates per second.

    `bandwidth`: bytes of weights -> bytes read per second, ascending; the last size fits into no cache that is known.
    `node_s`: seconds that one more node costs. `call_s`: seconds of an inference without its nodes.
    `absent`: precision -> why it has no figure. `unsettled`: figure -> how far its launches lie apart.
    """

    device: str
    backend: str
    version: str
    threads: int = 1
    macs_per_s: Mapping[str, float]
    bandwidth: tuple[tuple[int, float], ...]
    node_s: float
    call_s: float
    absent: Mapping[str, str] = field(default_factory=dict)
    unsettled: Mapping[str, str] = field(default_factory=dict)

    def read_rate(self, weight_bytes: int) -> tuple[str, float]:
        """The bandwidth of the largest size measured up to `weight_bytes`, else of the smallest, and its name.

        An inference reads all of these again, so what their sum fits into decides. Never too slow, so a bound stays one.
        """
        size, rate = next((one for one in reversed(self.bandwidth) if one[0] <= weight_bytes), self.bandwidth[0])
        return name_size(size), rate


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBound:
    """The least seconds a layer takes, and which limit sets them: "arithmetic", "memory" or "call"."""

    name: str
    seconds: float
    limit: str


def name_size(size: int) -> str:
    """The figure of `Roofline.bandwidth` at a size in bytes: `weights of 64 MiB`."""
    return f"weights of {size / 2**20:g} MiB" if size >= 2**20 else f"weights of {size / 2**10:g} KiB"


def read_roofline(facts: Mapping[str, Json]) -> Roofline | None:
    """The roofline in a record's facts; None without one, or where it is of another kind than this version writes."""
    try:
        return TypeAdapter(Roofline).validate_python(facts[FACT])
    except (KeyError, ValidationError):
        return None


def as_facts(roofline: Roofline) -> dict[str, Json]:
    """What `read_roofline` reads, as JSON."""
    return asdict(roofline)


def find_peak(record: Record, roofline: Roofline) -> tuple[str, float | None]:
    """The precision that a record multiplies in, and its multiply-accumulates per second; None where unmeasured."""
    asked = record.precision.asked if record.precision else "float32"
    named = ARITHMETIC.get(asked, asked)
    return named, roofline.macs_per_s.get(named)


def bound_layers(record: Record, roofline: Roofline) -> list[LayerBound]:
    """Each layer of the deployed file that multiplies, in graph order, for the batch of the record.

    Other layers are left out: runtimes fuse most of them into these. [] where the precision has no measured peak.
    """
    _, peak = find_peak(record, roofline)
    if not peak or record.cost is None:
        return []
    batch, bits = record.conditions.batch, (bits_of(record.precision) or (32, 32))[1]
    skips = bool(record.execution and record.execution.sparse_layers)
    _, rate = roofline.read_rate(_read_bytes(record))
    found = []
    for layer in list_multiplying(record):
        macs = layer.nonzero_macs if skips else layer.macs
        written = batch * prod(layer.output_shape) * bits / 8 if layer.output_shape else 0.0
        limits = {
            "arithmetic": batch * macs / peak,
            "memory": (layer.weight_bytes + written) / rate,
            "call": roofline.node_s,
        }
        limit = max(limits, key=lambda name: limits[name])
        found.append(LayerBound(name=layer.name, seconds=limits[limit], limit=limit))
    return found


def _read_bytes(record: Record) -> int:
    """Bytes of weights that every inference reads whole: not a table, of which it looks up a few rows."""
    return sum(layer.weight_bytes for layer in list_multiplying(record))


def least_seconds(bounds: list[LayerBound], roofline: Roofline) -> float:
    """The least time of an inference: its layers one after another, and the call."""
    return roofline.call_s + sum(bound.seconds for bound in bounds)


def describe_bound(record: Record, roofline: Roofline, measured_s: float | None = None) -> str:
    """Which limit other than arithmetic rules the predicted time of an inference; "" where none does.

    Also "" where the figure that it rests on did not settle, or the prediction is a small part of `measured_s`: then
    something else rules.
    """
    bounds = bound_layers(record, roofline)
    total = least_seconds(bounds, roofline)
    if not bounds or record.cost is None or total <= 0 or total < RULES * (measured_s or 0.0):
        return ""
    calls = roofline.call_s + sum(bound.seconds for bound in bounds if bound.limit == "call")
    memory = sum(bound.seconds for bound in bounds if bound.limit == "memory")
    size, _ = roofline.read_rate(_read_bytes(record))
    if calls > RULES * total and not {NODE, CALL} & set(roofline.unsettled):
        return f"call overhead: {100 * calls / total:.0f} % of the least time is starting {len(bounds)} kernels"
    if memory > RULES * total and size not in roofline.unsettled:
        return f"memory-bound: {100 * memory / total:.0f} % of the least time is moving weights and activations"
    return ""
