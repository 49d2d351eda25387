"""Why a cell delivered less than it promised: one sentence, from facts in its record and its baseline's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from bench.cost.roofline.bound import Roofline, describe_bound
from bench.cost.roofline.match import MULTIPLIES
from bench.records import LayerTime, Record
from bench.types import LayerCost

BLOCK = 8
"""Channels of one block of ONNX Runtime's NCHWc layout with AVX2; with AVX-512 it has 16."""
BLOCKED = re.compile(r"nchwc", re.IGNORECASE)
CONVOLUTION = re.compile(r"conv", re.IGNORECASE)
CODING = re.compile(r"^(quantizelinear|dequantizelinear|quantize|dequantize|convert)\b", re.IGNORECASE)
DYNAMIC = re.compile(r"dynamicquantize", re.IGNORECASE)
CASTS = re.compile(r"^cast\b", re.IGNORECASE)
MOVES = re.compile(r"^(transpose|reorder|reformat)|nchwtonhwc|nhwctonchw", re.IGNORECASE)
SHOWS = 0.1
"""A part of the time from which a cause counts, and the share of MACs on zeros from which sparsity does."""
AT_THE_ENDS = 2
"""Conversions of numbers that any quantized network has: at its input and its output."""
NAMED = 3


def explain_shortfall(
    record: Record, baseline: Record | None, roofline: Roofline | None = None, measured_s: float | None = None
) -> str:
    """The first cause of `CAUSES` that the records show, else the limit of the roofline that rules it; else what the
    per-layer times show; "" without any fact. `measured_s`: of one inference."""
    for find in CAUSES:
        if found := find(record, baseline):
            return found
    if roofline and (found := describe_bound(record, roofline, measured_s)):
        return found
    return show_times(record, baseline)


def find_float_layers(record: Record, _: Record | None) -> str:
    """Layers of a quantized file that run float kernels."""
    asked = record.precision
    if asked is None or asked.asked in {"float32", "tf32", "weight_only"}:
        return ""
    if asked.stayed_float:
        return f"{count(asked.stayed_float, 'layer')} run float kernels: {name_some(asked.stayed_float)}"
    ran = record.execution.multiplying if record.execution else {}
    wide = ran.get("float32", 0)
    if wide:
        kept = f", {len(asked.keep_float)} kept on purpose" if asked.keep_float else ""
        return f"{wide} of {sum(ran.values())} multiplying layers run float kernels{kept}"
    if record.execution and record.execution.precision == "float32":
        return f"runs float kernels: {asked.asked} was asked for, and the runtime multiplied in float32"
    return ""


def find_narrow_storage(record: Record, _: Record | None) -> str:
    """Weights that are only stored with fewer bits."""
    if record.precision is None or record.precision.asked != "weight_only":
        return ""
    return "only the weights are narrow: they are multiplied in float32, which saves bytes and no arithmetic"


def find_dynamic(record: Record, _: Record | None) -> str:
    """Activations that are quantized while the network runs."""
    return describe_share(record, DYNAMIC, "activations are quantized at run time")


def find_coding(record: Record, _: Record | None) -> str:
    """Conversions of numbers between the layers."""
    number = sum(n for name, n in count_operators(record).items() if CODING.search(name))
    return "" if number <= AT_THE_ENDS else describe_share(record, CODING, "Q/DQ left between layers")


def find_casts(record: Record, _: Record | None) -> str:
    """Casts from and to a type that the kernels do not take."""
    return describe_share(record, CASTS, "numbers are cast between layers")


def find_zeros(record: Record, _: Record | None) -> str:
    """Zeros that are multiplied like any other number."""
    cost = record.cost
    if cost is None or not cost.macs or cost.nonzero_macs > (1 - SHOWS) * cost.macs:
        return ""
    if record.execution and record.execution.sparse_layers:
        return ""
    zeros = f"{100 * (1 - cost.nonzero_macs / cost.macs):.0f} % of the multiplications are by zero"
    return f"no sparse kernel ran: {zeros}, and all are computed"


def find_blocking(record: Record, baseline: Record | None) -> str:
    """Convolutions that lost the blocked layout which the baseline's have."""
    if baseline is None:
        return ""
    blocked, before = (count_blocked(one.profile) for one in (record, baseline))
    odd = odd_channels(record)
    if not record.profile or blocked >= before or not odd:
        return ""
    widths = ", ".join(map(str, odd[:NAMED]))
    return f"{before - blocked} of {before} convolutions left NCHWc blocking: {widths} channels; try round_to={BLOCK}"


def count_blocked(profile: Iterable[LayerTime]) -> int:
    """Convolutions in blocked layout."""
    return sum(bool(BLOCKED.search(layer.name) and CONVOLUTION.search(layer.operator)) for layer in profile)


def odd_channels(record: Record) -> list[int]:
    """Widths of convolutions (N, C, H, W) that blocks do not divide, each once, in order."""
    layers: tuple[LayerCost, ...] = record.cost.layers if record.cost else ()
    wide = [one.output_shape[1] for one in layers if CONVOLUTION.search(one.operator) and len(one.output_shape) == 4]
    return list(dict.fromkeys(width for width in wide if width % BLOCK))


def find_partitions(record: Record, _: Record | None) -> str:
    """Operators that a delegate left, which cut the network into pieces."""
    ran = record.execution
    if ran is None or not ran.not_delegated or not ran.delegated:
        return ""
    left = ", ".join(f"{name} ×{number}" for name, number in list(ran.not_delegated.items())[:NAMED])
    pieces = f", which cuts it into {ran.partitions} partitions" if (ran.partitions or 0) > 1 else ""
    return f"the delegate left {left}{pieces}"


def find_moves(record: Record, baseline: Record | None) -> str:
    """Operators that only move numbers, where the baseline has fewer of them."""
    before = share_of(baseline, MOVES) if baseline else 0.0
    return (
        describe_share(record, MOVES, "numbers are moved between layouts") if share_of(record, MOVES) > before else ""
    )


CAUSES: tuple[Callable[[Record, Record | None], str], ...] = (
    find_float_layers,
    find_narrow_storage,
    find_dynamic,
    find_coding,
    find_casts,
    find_zeros,
    find_blocking,
    find_partitions,
    find_moves,
)


def show_times(record: Record, baseline: Record | None) -> str:
    """How much of the baseline's time multiplies nothing; else how the multiplying operators' time and MACs fell."""
    if baseline is None or not record.profile or not baseline.profile or not record.cost or not baseline.cost:
        return ""
    other = 1 - share_of(baseline, MULTIPLIES)
    macs = record.cost.nonzero_macs / baseline.cost.nonzero_macs if baseline.cost.nonzero_macs else 1.0
    if other > 2 * SHOWS and macs < 1 - SHOWS:
        return f"{100 * other:.0f} % of the baseline's time multiplies nothing and cannot shrink with the MACs"
    before, after = (sum_times(one, MULTIPLIES) for one in (baseline, record))
    if not before:
        return ""
    return f"multiplying layers take {100 * after / before:.0f} % of the baseline's time for {100 * macs:.0f} % of its MACs"


def describe_share(record: Record, kind: re.Pattern[str], what: str) -> str:
    """Operators of a kind that take a part of the time that counts, in words; "" where they do not."""
    share = share_of(record, kind)
    if share < SHOWS:
        return ""
    found = [f"{name} ×{number}" for name, number in count_operators(record).items() if kind.search(name)]
    return f"{what}: {', '.join(found[:NAMED])} take {100 * share:.0f} % of the time"


def share_of(record: Record, kind: re.Pattern[str]) -> float:
    """Their part of the profiled time, 0 without a profile."""
    total = sum(layer.mean_us for layer in record.profile)
    return sum_times(record, kind) / total if total else 0.0


def sum_times(record: Record, kind: re.Pattern[str]) -> float:
    """Microseconds of the operators of a kind."""
    return sum(layer.mean_us for layer in record.profile if kind.search(layer.operator))


def count_operators(record: Record) -> Mapping[str, int]:
    """Operator -> how many ran, by the profile."""
    return Counter(layer.operator for layer in record.profile)


def count(items: tuple[str, ...], what: str) -> str:
    """3 layers."""
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"


def name_some(names: tuple[str, ...]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
