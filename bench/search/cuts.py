"""One layer of a network, cut out at given widths, as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.search.nouns import Shape

OPSET, IR_VERSION = 17, 8


def write_cut(path: Path, shape: Shape, inputs: int, outputs: int) -> None:
    """A convolution or linear layer of seeded weights and a ReLU, which runtimes compute in the same kernel."""
    weight, attributes = _weight_of(shape, inputs, outputs)
    values = np.random.default_rng(0).standard_normal(weight).astype(np.float32) / max(1, weight[-1])
    constants = [
        numpy_helper.from_array(values, "weight"),
        numpy_helper.from_array(np.zeros(outputs, np.float32), "bias"),
    ]
    kind, extra = ("Conv", attributes) if shape.window else ("Gemm", {"transB": 1})
    nodes = [
        helper.make_node(kind, ["input", "weight", "bias"], ["sum"], **extra),
        helper.make_node("Relu", ["sum"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cut",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", inputs, *shape.window])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", outputs, *_left(shape)])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save(model, path)


def _weight_of(shape: Shape, inputs: int, outputs: int) -> tuple[tuple[int, ...], dict[str, int | list[int]]]:
    if not shape.window:
        return (outputs, inputs), {}
    groups = inputs if shape.depthwise else 1
    return (outputs, inputs // groups, *shape.kernel), {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "pads": [*shape.padding, *shape.padding],
        "dilations": list(shape.dilation),
        "group": groups,
    }


def _left(shape: Shape) -> Sequence[int]:
    return [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(
            shape.window, shape.padding, shape.dilation, shape.kernel, shape.stride, strict=True
        )
    ]
