"""Pooling operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from bench.models.from_onnx.builder import Builder, Handler, Operation
from bench.models.from_onnx.weighted import padded, pads_of

POOLS: Mapping[tuple[str, int], Callable[..., Any]] = {
    ("MaxPool", 3): F.max_pool1d, ("MaxPool", 4): F.max_pool2d, ("MaxPool", 5): F.max_pool3d,
    ("AveragePool", 3): F.avg_pool1d, ("AveragePool", 4): F.avg_pool2d, ("AveragePool", 5): F.avg_pool3d,
}  # fmt: skip


def pool(b: Builder, op: Operation) -> Any:
    """MaxPool and AveragePool."""
    kernel = [int(size) for size in op.attributes["kernel_shape"]]
    axes = len(kernel)
    strides, dilations = (list(op.attributes.get(key, [1] * axes)) for key in ("strides", "dilations"))
    function, several = POOLS.get((op.kind, axes + 2)), len([name for name in op.outputs if name]) > 1
    if function is None or several or (op.kind == "AveragePool" and set(dilations) != {1}):
        raise op.refuse("its axes, dilations or indices")
    pads, ceil = pads_of(b, op, kernel, strides, dilations), bool(op.attributes.get("ceil_mode"))
    if op.kind == "MaxPool":
        x, padding = padded(b, b.value(op.inputs[0]), pads, -float("inf"))
        return b.call(function, x, kernel, strides, padding, dilations, ceil)
    counted = bool(op.attributes.get("count_include_pad"))
    small = all(2 * edge <= size for edge, size in zip(pads[:axes], kernel, strict=True))
    if pads[:axes] == pads[axes:] and small and not ceil:
        return b.call(function, b.value(op.inputs[0]), kernel, strides, pads[:axes], ceil, counted)
    return _uneven_mean(b, op, function, kernel, strides, pads)


def _uneven_mean(
    b: Builder,
    op: Operation,
    function: Callable[..., Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> Any:
    """AveragePool whose windows hold different numbers of values: the mean over all places, times a constant for each
    window. The padding at the ends is what the size of the file's output asks for, which `ceil_mode` may enlarge."""
    axes, counted = len(kernel), bool(op.attributes.get("count_include_pad"))
    ins, outs, begins = b.fixed(op, op.inputs[0])[1:], b.fixed(op, op.outputs[0])[1:], pads[:axes]
    ends = [(o - 1) * s + k - i - p for o, s, k, i, p in zip(outs, strides, kernel, ins, begins, strict=True)]
    real = torch.ones(1, 1, *ins)
    if counted:
        real = F.pad(real, _inside_out(begins, pads[axes:]), value=1.0)
        real = F.pad(real, _inside_out([0] * axes, [e - p for e, p in zip(ends, pads[axes:], strict=True)]))
    else:
        real = F.pad(real, _inside_out(begins, ends))
    share = function(real, list(kernel), list(strides))
    padded_input = b.call(F.pad, b.value(op.inputs[0]), _inside_out(begins, ends))
    mean = b.call(function, padded_input, list(kernel), list(strides))
    return mean if bool((share == 1).all()) else b.call(torch.mul, mean, b.constant("windows", 1 / share))


def _inside_out(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Padding as `torch.nn.functional.pad` takes it: the last axis first."""
    return [edge for pair in zip(reversed(begins), reversed(ends), strict=True) for edge in pair]


def pool_all(b: Builder, op: Operation) -> fx.Node:
    """GlobalAveragePool and GlobalMaxPool."""
    rank = b.rank(op.inputs[0])
    named: Mapping[tuple[str, int], Callable[..., Any]] = {
        ("GlobalAveragePool", 3): F.adaptive_avg_pool1d, ("GlobalAveragePool", 4): F.adaptive_avg_pool2d,
        ("GlobalAveragePool", 5): F.adaptive_avg_pool3d, ("GlobalMaxPool", 3): F.adaptive_max_pool1d,
        ("GlobalMaxPool", 4): F.adaptive_max_pool2d, ("GlobalMaxPool", 5): F.adaptive_max_pool3d,
    }  # fmt: skip
    if (op.kind, rank) not in named:
        raise op.refuse(f"{rank} axes")
    return b.call(named[op.kind, rank], b.value(op.inputs[0]), 1)


POOLING: Mapping[str, Handler] = {
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": pool_all,
    "GlobalMaxPool": pool_all,
}
