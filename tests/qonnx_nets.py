"""Small QONNX networks, built as Brevitas and QKeras export them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"


class Graph:
    """Collects nodes and stored tensors; each method returns the name of what it made."""

    def __init__(self, domain: str = DOMAIN) -> None:
        self.domain, self.nodes, self.stored = domain, list[NodeProto](), list[TensorProto]()
        self.random = np.random.default_rng(0)
        self.weight = ""

    def keep(self, values: NDArray[Any] | float, kind: type = np.float32) -> str:
        """A stored tensor."""
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def weights(self, *shape: int) -> NDArray[Any]:
        """Seeded, from -1 to 1."""
        return self.random.uniform(-1, 1, shape)

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node."""
        name = f"{kind.lower()}{len(self.nodes)}"
        made = helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes)
        self.nodes.append(made)
        return name

    def quant(self, source: str, scale: NDArray[Any] | float, bits: int, *, signed: int = 1, narrow: int = 0) -> str:
        """Rounds to `bits` bits of `scale`."""
        given = (self.keep(scale), self.keep(0.0), self.keep(bits))
        found = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        return self.op("Quant", source, *given, domain=self.domain, **found)

    def sign(self, source: str) -> str:
        """1 or -1."""
        return self.op("BipolarQuant", source, self.keep(1.0), domain=self.domain)

    def model(self, shape: Sequence[int], output: str, size: int, *, imports: bool = True) -> ModelProto:
        """With one input `input` of `shape`, at batch 1."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, size])],
            self.stored,
        )
        sets = [helper.make_opsetid("", 13), *([helper.make_opsetid(self.domain, 1)] if imports else [])]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)


def small_conv(domain: str = DOMAIN) -> ModelProto:
    """Three channels in; scales that are no powers of two, one for each channel of weights; a residual sum; a `Trunc`."""
    made = Graph(domain)
    x = made.quant("input", 0.0131, 8)
    weight = made.quant(made.keep(made.weights(4, 3, 3, 3)), made.random.uniform(0.1, 0.3, (4, 1, 1, 1)), 4, narrow=1)
    x = made.op("Conv", x, weight, made.keep(made.weights(4)), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    norm = [made.keep(made.random.uniform(0.5, 1.5, 4)) for _ in range(4)]
    x = made.quant(made.op("Relu", made.op("BatchNormalization", x, *norm)), 0.21, 4, signed=0)
    inner = made.quant(made.keep(made.weights(4, 4, 3, 3)), 0.25, 3)
    y = made.op("Conv", x, inner, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    y = made.quant(y, 0.19, 5)
    x = made.quant(made.op("Relu", made.op("Add", x, y)), 0.25, 4)
    x = made.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = made.op("Mul", made.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), made.keep(4.0))
    trunc = (made.keep(0.25), made.keep(0.0), made.keep(6), made.keep(4))
    x = made.op("Trunc", x, *trunc, domain=domain, rounding_mode="FLOOR")
    x = made.op("Flatten", x)
    head = made.quant(made.keep(made.weights(3, 16)), 0.3, 2, narrow=1)
    return made.model((3, 8, 8), made.op("Gemm", x, head, made.keep(made.weights(3)), transB=1), 3)


def small_binary(domain: str = DOMAIN, *, imports: bool = True) -> ModelProto:
    """Signs of an image's pixels, two layers of signs, and a scale at the end."""
    made = Graph(domain)
    x = made.op("Reshape", "input", made.keep([1, -1], np.int64))
    x = made.sign(made.op("Sub", made.op("Mul", x, made.keep(2.0)), made.keep(1.0)))
    x = made.op("MatMul", x, made.sign(made.keep(made.weights(16, 6))))
    norm = [made.keep(one) for one in (made.weights(6), made.weights(6), made.weights(6), abs(made.weights(6)))]
    x = made.sign(made.op("BatchNormalization", x, *norm))
    x = made.op("MatMul", x, made.sign(made.keep(made.weights(6, 3))))
    return made.model((1, 4, 4), made.op("Div", x, made.keep(17.8)), 3, imports=imports)


def keras_row(domain: str = DOMAIN) -> ModelProto:
    """Channels last as TensorFlow has them, turned for the convolution and back."""
    made = Graph(domain)
    x = made.op("Transpose", made.quant("input", 2.0**-6, 8), perm=[0, 3, 1, 2])
    weight = made.quant(made.keep(made.weights(2, 3, 2, 2)), 2.0**-4, 6)
    x = made.op("Conv", x, weight, made.quant(made.keep(made.weights(2)), 2.0**-5, 6), kernel_shape=[2, 2])
    x = made.quant(made.op("Relu", x), 2.0**-3, 6, signed=0)
    x = made.op("Reshape", made.op("Transpose", x, perm=[0, 2, 3, 1]), made.keep([-1, 12], np.int64))
    x = made.op("MatMul", x, made.quant(made.keep(made.weights(12, 2)), 2.0**-4, 6))
    x = made.op("Add", x, made.quant(made.keep(made.weights(2)), 2.0**-5, 6))
    return made.model((3, 4, 3), made.quant(x, 2.0**-4, 8), 2)
