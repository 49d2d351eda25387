"""Operators without weights that work on single numbers, or on an axis: each is a call of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import fx

from bench.models.from_onnx.builder import Builder, Handler, Operation

UNARY: Mapping[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Ceil": torch.ceil, "Cos": torch.cos, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "Log": torch.log, "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
    "HardSwish": F.hardswish, "IsNaN": torch.isnan,
}  # fmt: skip
BINARY: Mapping[str, Callable[..., Any]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow, "And": torch.logical_and,
    "Or": torch.logical_or, "Xor": torch.logical_xor, "Equal": torch.eq, "Greater": torch.gt, "Less": torch.lt,
    "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le,
}  # fmt: skip
TYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32, TensorProto.BOOL: torch.bool, TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8, TensorProto.FLOAT16: torch.float16,
}  # fmt: skip
REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceL1": partial(torch.linalg.vector_norm, ord=1), "ReduceL2": torch.linalg.vector_norm,
    "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip


def unary(function: Callable[..., Any], b: Builder, op: Operation) -> fx.Node:
    """One input, no attributes."""
    return b.call(function, b.value(op.inputs[0]))


def binary(function: Callable[..., Any], b: Builder, op: Operation) -> Any:
    """Two inputs with broadcasting; numbers stay numbers."""
    left, right = b.value(op.inputs[0]), b.value(op.inputs[1])
    if not isinstance(left, fx.Node) and not isinstance(right, fx.Node):
        raise op.refuse("two constants that ONNX Runtime did not compute")
    if not isinstance(left, fx.Node) and function in {torch.sub, torch.pow}:
        left = b.call(torch.full, (), left)
    elif not isinstance(left, fx.Node) and function in {torch.add, torch.mul}:
        left, right = right, left
    elif not isinstance(left, fx.Node):
        left = b.call(torch.full, (), left)
    return b.call(function, left, right)


def divide(b: Builder, op: Operation) -> fx.Node:
    """Div: true division of floats; of integers, towards zero."""
    left, right = b.value(op.inputs[0]), b.value(op.inputs[1])
    left = left if isinstance(left, fx.Node) else b.call(torch.full, (), left)
    whole = b.probe.values[op.outputs[0]].dtype.kind in "iu"
    return b.call(torch.div, left, right, rounding_mode="trunc") if whole else b.call(torch.div, left, right)


def modulo(b: Builder, op: Operation) -> fx.Node:
    """Mod: fmod = 1 has the sign of the dividend."""
    function = torch.fmod if op.attributes.get("fmod") else torch.remainder
    return b.call(function, b.value(op.inputs[0]), b.value(op.inputs[1]))


def several(function: Callable[..., Any], b: Builder, op: Operation) -> Any:
    """Sum, Max, Min, Mean: any number of inputs, two at a time."""
    values = [b.value(name) for name in op.inputs]
    found, *rest = (value if isinstance(value, fx.Node) else b.call(torch.full, (), value) for value in values)
    for other in rest:
        found = b.call(function, found, other)
    return b.call(torch.div, found, len(op.inputs)) if op.kind == "Mean" else found


def with_attributes(b: Builder, op: Operation) -> fx.Node:
    """Activations whose attributes are torch's under another name."""
    x, given = b.value(op.inputs[0]), op.attributes
    if op.kind == "LeakyRelu":
        return b.call(F.leaky_relu, x, float(given.get("alpha", 0.01)))
    if op.kind == "Elu":
        return b.call(F.elu, x, float(given.get("alpha", 1.0)))
    if op.kind == "Celu":
        return b.call(F.celu, x, float(given.get("alpha", 1.0)))
    if op.kind == "Selu":
        return b.call(F.selu, x)
    if op.kind == "Gelu":
        return b.call(F.gelu, x, approximate=given.get("approximate", "none"))
    slope, shift = float(given.get("alpha", 0.2)), float(given.get("beta", 0.5))  # HardSigmoid
    return b.call(torch.clamp, b.call(torch.add, b.call(torch.mul, x, slope), shift), 0.0, 1.0)


def clip(b: Builder, op: Operation) -> fx.Node:
    """Clip: limits are attributes before opset 11, inputs since."""
    low, high = (
        b.need(op, i, "limit").item() if op.input(i) else op.attributes.get(key) for i, key in ((1, "min"), (2, "max"))
    )
    x = b.value(op.inputs[0])
    if low == 0 and high == 6:
        return b.call(F.relu6, x)
    return b.call(torch.clamp, x, min=low, max=high)


def cast(b: Builder, op: Operation) -> fx.Node:
    """Cast between the types torch has."""
    wanted = int(op.attributes["to"])
    if wanted not in TYPES:
        raise op.refuse(f"a cast to {TensorProto.DataType.Name(wanted)}")
    return b.graph.call_method("to", (b.value(op.inputs[0]),), {"dtype": TYPES[wanted]})


def softmax(b: Builder, op: Operation) -> fx.Node:
    """Softmax and LogSoftmax; before opset 13 over all axes from `axis` on together."""
    function = torch.softmax if op.kind == "Softmax" else torch.log_softmax
    rank = b.rank(op.inputs[0])
    axis = int(op.attributes.get("axis", -1 if b.opset >= 13 else 1)) % rank
    x = b.value(op.inputs[0])
    if b.opset >= 13 or axis == rank - 1:
        return b.call(function, x, axis)
    flat = b.call(function, b.call(torch.flatten, x, axis), axis)
    return b.graph.call_method("unflatten", (flat, axis, b.spelled(b.sizes(op.inputs[0])[axis:])))


def reduce(function: Callable[..., Any], b: Builder, op: Operation) -> fx.Node:
    """Reductions: axes are an attribute before opset 13 or 18, an input since; none are all."""
    axes = op.attributes.get("axes")
    if op.input(1):
        axes = b.need(op, 1, "axes").tolist()
    if not axes and op.attributes.get("noop_with_empty_axes"):
        return b.value(op.inputs[0])  # type: ignore[no-any-return]
    rank = b.rank(op.inputs[0])
    dims = sorted(int(axis) % rank for axis in axes or range(rank))
    return b.call(function, b.value(op.inputs[0]), dim=dims, keepdim=bool(op.attributes.get("keepdims", 1)))


def arg(function: Callable[..., Any], b: Builder, op: Operation) -> fx.Node:
    """ArgMax and ArgMin, the first of equals."""
    if op.attributes.get("select_last_index"):
        raise op.refuse("the last of equals")
    axis = int(op.attributes.get("axis", 0)) % b.rank(op.inputs[0])
    return b.call(function, b.value(op.inputs[0]), dim=axis, keepdim=bool(op.attributes.get("keepdims", 1)))


def where(b: Builder, op: Operation) -> fx.Node:
    """Where with broadcasting."""
    return b.call(torch.where, *(b.value(name) for name in op.inputs))


def einsum(b: Builder, op: Operation) -> fx.Node:
    """Einsum: torch reads the same equation."""
    return b.call(torch.einsum, op.attributes["equation"], *(b.value(name) for name in op.inputs))


def cumulative(b: Builder, op: Operation) -> fx.Node:
    """CumSum without its exclusive and reverse forms."""
    if op.attributes.get("exclusive") or op.attributes.get("reverse"):
        raise op.refuse("the exclusive or reverse form")
    return b.call(torch.cumsum, b.value(op.inputs[0]), int(np.ravel(b.need(op, 1, "axis"))[0]))


def same(b: Builder, op: Operation) -> Any:
    """Identity, and Dropout, which does nothing once a network is trained."""
    return b.value(op.inputs[0])


FUNCTIONS: Mapping[str, Handler] = {
    **{kind: partial(unary, function) for kind, function in UNARY.items()},
    **{kind: partial(binary, function) for kind, function in BINARY.items()},
    **{kind: partial(reduce, function) for kind, function in REDUCTIONS.items()},
    "Div": divide,
    "Mod": modulo,
    "Sum": partial(several, torch.add),
    "Mean": partial(several, torch.add),
    "Max": partial(several, torch.maximum),
    "Min": partial(several, torch.minimum),
    **dict.fromkeys(("LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "HardSigmoid"), with_attributes),
    "Clip": clip,
    "Cast": cast,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "ArgMax": partial(arg, torch.argmax),
    "ArgMin": partial(arg, torch.argmin),
    "Where": where,
    "Einsum": einsum,
    "CumSum": cumulative,
    "Identity": same,
    "Dropout": same,
}
