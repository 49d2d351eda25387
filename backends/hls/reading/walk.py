"""Walks a QONNX graph node by node: which tensors are stored, which are whole numbers, which are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, numpy_helper

from backends.hls.design import INPUT, Array, Design, Node
from backends.hls.reading.graph import attributes, refuse
from backends.hls.reading.quantizers import DOMAINS, QUANTIZERS, read_quantizer
from backends.hls.reading.values import ENTERING, Builder, Value
from bench.errors import Unsupported

TAKEN = (
    "Quant, BipolarQuant and Trunc, Gemm, MatMul and Conv with quantized weights, BatchNormalization, Add, Sub, Mul and "
    "Div, Relu, MaxPool, AveragePool and GlobalAveragePool over a power of two of values, and what reshapes to one row"
)
Operator = Callable[["Reader", NodeProto], Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Stored whole numbers and the scale that makes them the weights, of the same shape."""

    integers: Array
    scale: Array


@dataclass(slots=True, kw_only=True)
class Reader:
    """`operators`: what reads each standard one. `stored`: constants; `weights`: those that a quantizer made whole numbers of; `values`: computed tensors.

    `readers`: how many nodes read a tensor. `branched`: two have read one."""

    operators: Mapping[str, Operator]
    stored: dict[str, Array]
    weights: dict[str, Weight] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    builder: Builder = field(default_factory=Builder)
    readers: Counter[str] = field(default_factory=Counter)
    branched: bool = False

    def begin(self, tensor: str, shape: tuple[int, ...], *, channels_last: bool) -> None:
        """`shape`: of the input as the model takes it."""
        held = (*shape[1:], shape[0]) if len(shape) == 3 and not channels_last else shape
        made = self.builder.add(INPUT, "input", (), held, result=ENTERING)
        self.values[tensor] = Value(node=made.name, channels_last=channels_last)

    def read(self, node: NodeProto) -> None:
        """Adds what the operator computes."""
        if node.op_type == "Constant":
            self.stored[node.output[0]] = np.asarray(numpy_helper.to_array(attributes(node)["value"]), np.float64)
            return
        standard = node.domain in ("", "ai.onnx") and node.op_type in self.operators
        if not standard and not (node.domain in DOMAINS and node.op_type in QUANTIZERS):
            raise Unsupported(
                f"operator {node.op_type} ({node.name}) has no form of whole numbers in hls4ml here; it has {TAKEN}"
            )
        if node.op_type in QUANTIZERS:
            self.quantize(node)
            return
        self._see(node)
        made = self.operators[node.op_type](self, node)
        if isinstance(made, Value):
            self.values[node.output[0]] = made

    def _see(self, node: NodeProto) -> None:
        self.branched |= any(name in self.values and self.readers[name] > 1 for name in node.input)

    def quantize(self, node: NodeProto) -> None:
        """A stored tensor becomes whole numbers at once, a computed one on the FPGA."""
        stored = [self.stored.get(name) for name in node.input]
        if stored[0] is None:
            self._see(node)
            value = self.value(node.input[0], node)
            by = read_quantizer(node, stored, self.builder.type_of(value.node))
            self.values[node.output[0]] = self.builder.quantize(value, by, node, branched=self.branched)
            return
        by = read_quantizer(node, stored)
        integers = by.integers(stored[0])
        self.weights[node.output[0]] = Weight(integers=integers, scale=np.broadcast_to(by.scale, integers.shape))
        self.stored[node.output[0]] = integers * by.scale

    def value(self, tensor: str, node: NodeProto) -> Value:
        """A computed tensor."""
        if tensor not in self.values:
            raise refuse(node, "with a constant where a value belongs")
        return self.values[tensor]

    def constant(self, tensor: str, node: NodeProto) -> Array:
        """A stored tensor. Raises `Unsupported` where the operator takes two values."""
        if tensor not in self.stored:
            raise refuse(node, "of two computed values")
        return self.stored[tensor]

    def weight(self, tensor: str, node: NodeProto) -> Weight:
        """Stored whole numbers. Raises `Unsupported` for weights without a quantizer."""
        if tensor not in self.weights:
            raise refuse(node, f"with weights {tensor!r} that no Quant or BipolarQuant makes whole numbers of")
        return self.weights[tensor]

    def finish(self, output: str, shape: tuple[int, ...], *, channels_last: bool) -> Design:
        """Ends in real values. Raises `Unsupported` for an output that is an image or the input."""
        if output not in self.values:
            raise Unsupported("this network has no layer with weights between its input and its output")
        last = self.builder.settle(self.values[output], "output", 1.0)
        nodes = self.builder.nodes
        if len(self.builder[last.node].shape) != 1 or last.row:
            raise Unsupported("its output is an image: an FPGA design ends in a row, such as the scores of classes")
        needed: list[Node] = []
        wanted = {last.node}
        for node in reversed(nodes):
            if node.name in wanted:
                needed.insert(0, node)
                wanted |= set(node.inputs)
        if needed[0].kind != "input" or not any(node.weight is not None for node in needed):
            raise Unsupported("this network has no layer with weights between its input and its output")
        return Design(
            nodes=tuple(needed),
            input_shape=shape,
            output=output,
            channels_last=channels_last,
            entry=self.builder.entry,
            from_file=True,
        )

    def layer(self, node: NodeProto, kind: str, value: Value, integers: Array, scale: Array, **given: Any) -> Value:
        """A layer of whole numbers: its scale is the product of both, its bias is added behind it."""
        value = self.builder.settle(value, f"{node.name} input")
        source = self.builder[value.node]
        shape = given.pop("shape", integers.shape[-1:])
        made = self.builder.add(node.name, kind, (source.name,), shape, **given)
        self.builder.retype(made, weight=integers, bias=np.zeros(integers.shape[-1]))
        one = scale.reshape(-1, scale.shape[-1])
        if np.any(one != one[0]):
            raise refuse(node, "with a scale for each input of its weights")
        same = one[0] if np.any(one[0] != one[0][0]) else one[0][:1].reshape(())
        return Value(node=made.name, scale=value.scale * same, channels_last=value.channels_last)
