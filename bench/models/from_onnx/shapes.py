"""Operators that move, cut or join: sizes come from the runs of the file, never from its shape arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from bench.models.from_onnx.builder import Builder, Handler, Operation
from bench.models.from_onnx.pools import POOLING
from bench.models.from_onnx.probe import PerBatch, Size
from bench.models.from_onnx.weighted import embedding

MODES = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}


def reshape(b: Builder, op: Operation) -> Any:
    """Reshape, Flatten, Squeeze, Unsqueeze by what they do to the sizes; channel counts are written down only where
    nothing else says them, so that a pruned network still fits."""
    x = b.value(op.inputs[0])
    before, after = b.sizes(op.inputs[0]), b.sizes(op.outputs[0])
    if before == after:
        return x
    start = _flattened_from(before, after)
    if start is not None:
        return b.call(torch.flatten, x, start)
    ones = _ones_added(before, after)
    if ones is not None:
        for axis in ones:
            x = b.call(torch.unsqueeze, x, axis)
        return x
    ones = _ones_added(after, before)
    if ones is not None:
        for axis in reversed(ones):
            x = b.call(torch.squeeze, x, axis)
        return x
    return b.call(torch.reshape, x, _with_one_free(b, after))


def _flattened_from(before: Sequence[Size], after: Sequence[Size]) -> int | None:
    start = len(after) - 1
    if not 0 < start < len(before) - 1 or tuple(before[:start]) != tuple(after[:start]):
        return None
    rest = [size for size in before[start:] if not isinstance(size, PerBatch)]
    return start if len(rest) == len(before) - start and prod(rest) == after[start] else None


def _ones_added(before: Sequence[Size], after: Sequence[Size]) -> list[int] | None:
    """Axes of `after` to insert as ones so that `before` becomes it; None where that is not what happens."""
    added, place = [], 0
    for axis, size in enumerate(after):
        if (
            place < len(before)
            and before[place] == size
            and not (size == 1 and len(after) - axis > len(before) - place)
        ):
            place += 1
        elif size == 1:
            added.append(axis)
        else:
            return None
    return added if place == len(before) and added else None


def _with_one_free(b: Builder, sizes: Sequence[Size]) -> tuple[Any, ...]:
    growing = [axis for axis, size in enumerate(sizes) if isinstance(size, PerBatch)]
    if len(growing) == 1:
        return tuple(-1 if axis == growing[0] else size for axis, size in enumerate(sizes))
    return b.spelled(sizes)


def transpose(b: Builder, op: Operation) -> fx.Node:
    """Transpose; without `perm` all axes are reversed."""
    rank = b.rank(op.inputs[0])
    order = [int(axis) for axis in op.attributes.get("perm", reversed(range(rank)))]
    return b.call(torch.permute, b.value(op.inputs[0]), order)


def concat(b: Builder, op: Operation) -> fx.Node:
    """Concat along an axis; numbers among shape vectors do not reach here."""
    axis = int(op.attributes["axis"]) % b.rank(op.outputs[0])
    return b.call(torch.cat, [b.value(name) for name in op.inputs], axis)


def split(b: Builder, op: Operation) -> tuple[Any, ...]:
    """Split: the sizes of the parts are those the file gave."""
    axis = int(op.attributes.get("axis", 0)) % b.rank(op.inputs[0])
    parts = [b.sizes(name)[axis] for name in op.outputs]
    if len({repr(part) for part in parts}) == 1 and not isinstance(parts[0], PerBatch):
        done = b.call(torch.chunk, b.value(op.inputs[0]), len(parts), axis)
    else:
        done = b.call(torch.split, b.value(op.inputs[0]), list(b.spelled(parts)), axis)
    return tuple(b.call(operator.getitem, done, index) for index in range(len(parts)))


def cut(b: Builder, op: Operation) -> Any:
    """Slice: starts, ends, axes and steps are attributes before opset 10, inputs since."""
    starts, ends, axes, steps = _slice_arguments(b, op)
    x, rank = b.value(op.inputs[0]), b.rank(op.inputs[0])
    window: list[Any] = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = int(axis) % rank
        if step < 0:
            if step != -1 or place == 0:
                raise op.refuse(f"a step of {step}")
            x = b.call(torch.flip, x, [place])
            count = b.fixed(op, op.inputs[0])[place - 1] if place else 0
            start, end = (count - 1 - _clamped(edge, count) for edge in (start, end))  # noqa: PLW2901
            step = 1  # noqa: PLW2901
        window[place] = slice(int(start) or None, None if end >= 2**31 - 1 else int(end), int(step))
    return b.call(operator.getitem, x, tuple(window))


def _clamped(edge: int, count: int) -> int:
    return max(-1, min(count - 1, int(edge) + count if -count <= edge < 0 else int(edge)))


def _slice_arguments(b: Builder, op: Operation) -> tuple[list[int], ...]:
    if len(op.inputs) == 1:
        starts, ends = list(op.attributes["starts"]), list(op.attributes["ends"])
        return starts, ends, list(op.attributes.get("axes", range(len(starts)))), [1] * len(starts)
    starts, ends = b.need(op, 1, "start").tolist(), b.need(op, 2, "end").tolist()
    axes = b.need(op, 3, "axes").tolist() if op.input(3) else list(range(len(starts)))
    return starts, ends, axes, b.need(op, 4, "step").tolist() if op.input(4) else [1] * len(starts)


def gather(b: Builder, op: Operation) -> Any:
    """Gather: a table of constants is an embedding, one constant index a selection."""
    axis = int(op.attributes.get("axis", 0)) % b.rank(op.inputs[0])
    index, table = b.known(op.inputs[1]), b.known(op.inputs[0])
    if index is None and table is not None and table.ndim == 2 and axis == 0:
        return embedding(b, op)
    if index is not None and index.ndim == 0:
        return b.call(torch.select, b.value(op.inputs[0]), axis, int(index))
    window = (slice(None),) * axis
    return b.call(operator.getitem, b.value(op.inputs[0]), (*window, b.value(op.inputs[1])))


def expand(b: Builder, op: Operation) -> fx.Node:
    """Expand to the sizes the file gave."""
    return b.graph.call_method("expand", (b.value(op.inputs[0]), *b.spelled(b.sizes(op.outputs[0]))))


def tile(b: Builder, op: Operation) -> fx.Node:
    """Tile by constant repeats."""
    return b.graph.call_method("repeat", (b.value(op.inputs[0]), *b.need(op, 1, "repeats").tolist()))


def pad(b: Builder, op: Operation) -> Any:
    """Pad; sizes are an attribute before opset 11, inputs since."""
    pads = list(op.attributes.get("pads", ())) or b.need(op, 1, "pads").tolist()
    if op.input(3):
        raise op.refuse("axes of its own")
    value = float(b.need(op, 2, "value").item()) if op.input(2) else float(op.attributes.get("value", 0.0))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        op.attributes.get("mode", "constant")
    ]
    rank = len(pads) // 2
    turned = [int(pads[rank * end + axis]) for axis in reversed(range(rank)) for end in (0, 1)]
    while len(turned) > 2 and turned[-2:] == [0, 0]:
        del turned[-2:]
    return b.call(F.pad, b.value(op.inputs[0]), turned, mode, *([value] if mode == "constant" else []))


def resize(b: Builder, op: Operation) -> fx.Node:
    """Resize and Upsample to the size the file gave; the check of the outputs refuses a grid torch does not have."""
    rank = b.rank(op.inputs[0])
    mode, grid = op.attributes.get("mode", "nearest"), op.attributes.get("coordinate_transformation_mode", "half_pixel")
    size = list(b.fixed(op, op.outputs[0])[1:])
    if mode == "nearest":
        return b.call(F.interpolate, b.value(op.inputs[0]), size=size, mode="nearest")
    if (mode, rank) not in MODES or grid not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        raise op.refuse(f"mode {mode!r} with the grid {grid!r}")
    return b.call(
        F.interpolate, b.value(op.inputs[0]), size=size, mode=MODES[mode, rank], align_corners=grid == "align_corners"
    )


def depth_to_space(b: Builder, op: Operation) -> Any:
    """DepthToSpace: CRD is pixel_shuffle; DCR has its blocks before the channels."""
    x, block = b.value(op.inputs[0]), int(op.attributes["blocksize"])
    if op.attributes.get("mode", "DCR") == "CRD":
        return b.call(F.pixel_shuffle, x, block)
    x = b.graph.call_method("unflatten", (x, 1, (block * block, -1)))
    x = b.call(torch.flatten, b.call(torch.transpose, x, 1, 2), 1, 2)
    return b.call(F.pixel_shuffle, x, block)


def space_to_depth(b: Builder, op: Operation) -> Any:
    """SpaceToDepth: pixel_unshuffle with its blocks before the channels."""
    block = int(op.attributes["blocksize"])
    x = b.call(F.pixel_unshuffle, b.value(op.inputs[0]), block)
    x = b.graph.call_method("unflatten", (x, 1, (-1, block * block)))
    return b.call(torch.flatten, b.call(torch.transpose, x, 1, 2), 1, 2)


def local_norm(b: Builder, op: Operation) -> fx.Node:
    """LRN; both divide `alpha` by the window's size."""
    given = op.attributes
    named = {
        "alpha": float(given.get("alpha", 1e-4)),
        "beta": float(given.get("beta", 0.75)),
        "k": float(given.get("bias", 1.0)),
    }
    return b.call(F.local_response_norm, b.value(op.inputs[0]), int(given["size"]), **named)


def triangle(b: Builder, op: Operation) -> fx.Node:
    """Trilu."""
    diagonal = int(np.ravel(b.need(op, 1, "diagonal"))[0]) if op.input(1) else 0
    return b.call(torch.triu if op.attributes.get("upper", 1) else torch.tril, b.value(op.inputs[0]), diagonal)


SHAPES: Mapping[str, Handler] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": cut,
    "Gather": gather,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    **POOLING,
    "Resize": resize,
    "Upsample": resize,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "LRN": local_norm,
    "Trilu": triangle,
}
