"""What both readers ask of ONNX: a graph's ends, a node's attributes and padding, and the words for one without a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto, NodeProto, helper, numpy_helper

from bench.errors import Unsupported


def read_ends(model: ModelProto) -> tuple[dict[str, Any], str, tuple[int, ...]]:
    """The stored tensors by name, and the name and shape of the one input, without its batch axis.

    Raises `Unsupported` for several inputs or outputs, and for an input that is neither a row nor an image.
    """
    graph = model.graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Unsupported(
            f"an FPGA design has one input and one output, this network {len(inputs)} and {len(graph.output)}"
        )
    shape = tuple(dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim)[1:]
    if len(shape) not in (1, 3):
        raise Unsupported(f"input {inputs[0].name!r} of shape {shape}: an FPGA design takes a row or an image")
    return stored, inputs[0].name, shape


def pads_of(
    node: NodeProto, found: Mapping[str, Any], shape: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[int, ...]:
    """Zeros around an image of `shape`: top, left, bottom, right. Raises `Unsupported` for an unknown `auto_pad`."""
    kind = found.get("auto_pad", b"NOTSET").decode()
    if kind == "NOTSET":
        return tuple(found.get("pads", (0, 0, 0, 0)))
    if kind == "VALID":
        return (0, 0, 0, 0)
    total = [
        max((-(-size // step) - 1) * step + wide - size, 0)
        for size, wide, step in zip(shape[:2], window, stride, strict=True)
    ]
    small = [one // 2 for one in total]
    large = [one - half for one, half in zip(total, small, strict=True)]
    if kind == "SAME_UPPER":
        return (*small, *large)
    if kind == "SAME_LOWER":
        return (*large, *small)
    raise refuse(node, f"with auto_pad {kind}")


def window_places(
    shape: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[int, int]:
    """How many windows fit, down and across."""
    high, wide = ((shape[axis] + pads[axis] + pads[axis + 2] - window[axis]) // stride[axis] + 1 for axis in range(2))
    return high, wide


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def refuse(node: NodeProto, what: str) -> Unsupported:
    """The error for a node that has no fixed-point form; `what` says which property is the reason."""
    return Unsupported(f"operator {node.op_type} ({node.name}) {what} has no fixed-point form in hls4ml here")
