"""Computes a design in numpy, in floats or to the bit in fixed point: what every other simulation must equal."""

from __future__ import annotations

import numpy as np

from backends.hls.design import Array, Design, Node


def evaluate(design: Design, samples: Array, *, fixed: bool) -> dict[str, Array]:
    """Every value by node name, (samples, *shape); `samples` with channels last.

    With `fixed` each value is rounded to its node's `result`; doubles hold all sums exactly (`EXACT_BITS`).
    """
    values: dict[str, Array] = {}
    for node in design.nodes:
        value = samples if node.kind == "input" else compute(node, [values[name] for name in node.inputs])
        values[node.name] = node.result.quantize(value) if fixed and node.result and not node.exact else value
    return values


def compute(node: Node, inputs: list[Array]) -> Array:
    """The node's value before it is rounded."""
    first = inputs[0]
    if node.weight is not None:
        rows = first
        if node.kind == "conv":
            seen = patches(first, node)
            rows = seen.reshape(*seen.shape[:3], -1)
        made = rows @ node.weight.reshape(-1, node.weight.shape[-1])
        return made if node.bias is None else made + node.bias
    if node.factor is not None:
        return first * node.factor + (0.0 if node.shift is None else node.shift)
    return _plain(node, inputs)


def _plain(node: Node, inputs: list[Array]) -> Array:
    """Of a node without stored numbers."""
    first = inputs[0]
    match node.kind:
        case "relu":
            return np.maximum(first, 0.0)
        case "maxpool":
            return np.asarray(patches(first, node).max(axis=(3, 4)))
        case "avgpool":
            return np.asarray(patches(first, node).sum(axis=(3, 4)) / float(np.prod(node.window)))
        case "add":
            return first + inputs[1]
        case "flatten":
            return first.reshape(len(first), *node.shape)
        case "sign":
            return np.where(first >= 0, 1.0, -1.0)
    raise ValueError(node.kind)


def patches(image: Array, node: Node) -> Array:
    """The windows of (samples, height, width, channels): (samples, rows, columns, window height, width, channels)."""
    top, left, bottom, right = node.pads or (0, 0, 0, 0)
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, node.window, axis=(1, 2))
    return np.moveaxis(seen[:, :: node.stride[0], :: node.stride[1]], 3, -1)
