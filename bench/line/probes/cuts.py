"""Single layers of a network at given widths, and chains of small ones, as ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layer without its numbers of channels. `window`: its input's size behind the channels, () for a linear layer.

    `rows`: what a linear layer's input has between batch and channels, as the tokens of a sequence. `depthwise`: each
    output channel reads one input channel.
    """

    window: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    depthwise: bool = False
    rows: tuple[int, ...] = ()


def write_cut(path: Path, shape: Shape, inputs: int, outputs: int) -> None:
    """A convolution or linear layer of seeded weights and a ReLU, which runtimes compute in the same kernel."""
    weight, attributes = _weight_of(shape, inputs, outputs)
    values = np.random.default_rng(0).standard_normal(weight).astype(np.float32) / max(1, weight[-1])
    bias = numpy_helper.from_array(np.zeros(outputs, np.float32), "bias")
    relu = helper.make_node("Relu", ["sum"], ["output"])
    if shape.rows:  # as exporters write a linear layer of more than rows
        nodes = [
            helper.make_node("MatMul", ["input", "weight"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["sum"]),
            relu,
        ]
        constants = [numpy_helper.from_array(np.ascontiguousarray(values.T), "weight"), bias]
        _save(path, nodes, constants, ["N", *shape.rows, inputs], ["N", *shape.rows, outputs])
        return
    kind, extra = ("Conv", attributes) if shape.window else ("Gemm", {"transB": 1})
    nodes = [helper.make_node(kind, ["input", "weight", "bias"], ["sum"], **extra), relu]
    constants = [numpy_helper.from_array(values, "weight"), bias]
    _save(path, nodes, constants, ["N", inputs, *shape.window], ["N", outputs, *left_of(shape)])


def write_chain(path: Path, width: int, layers: int) -> None:
    """Linear layers of `width` channels, one after another, which no runtime can join: their weights are random."""
    generator = np.random.default_rng(0)
    constants, nodes = [], []
    for place in range(layers):
        values = generator.standard_normal((width, width)).astype(np.float32) / np.sqrt(width, dtype=np.float32)
        constants += [
            numpy_helper.from_array(values, f"weight{place}"),
            numpy_helper.from_array(values[0], f"bias{place}"),
        ]
        ends = "input" if place == 0 else f"out{place - 1}", "output" if place == layers - 1 else f"out{place}"
        nodes.append(helper.make_node("Gemm", [ends[0], f"weight{place}", f"bias{place}"], [ends[1]], transB=1))
    _save(path, nodes, constants, ["N", width], ["N", width])


def _save(
    path: Path,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    inputs: Sequence[str | int],
    outputs: Sequence[str | int],
) -> None:
    graph = helper.make_graph(
        nodes,
        "cut",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, outputs)],
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


def left_of(shape: Shape) -> tuple[int, ...]:
    """The output's size behind the channels; () for a linear layer."""
    return tuple(
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(
            shape.window, shape.padding, shape.dilation, shape.kernel, shape.stride, strict=True
        )
    )
