"""Operators with weights: each becomes the layer of torch.nn that computes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bench.models.from_onnx.builder import Builder, Handler, Operation, as_tensor

CONVOLUTIONS: Mapping[int, type[nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
TRANSPOSED: Mapping[int, type[nn.Module]] = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d, 5: nn.ConvTranspose3d}
BATCH_NORMS: Mapping[int, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
INSTANCE_NORMS: Mapping[int, type[nn.Module]] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def with_weights(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """The module with these parameters and buffers in place; None leaves one as it is."""
    with torch.no_grad():
        for name, value in tensors.items():
            if value is not None:
                getattr(module, name).copy_(value.reshape(getattr(module, name).shape))
    return module


def optional(b: Builder, op: Operation, position: int, what: str) -> Tensor | None:
    """A constant input as a tensor; None where it is left out."""
    return as_tensor(b.need(op, position, what)) if op.input(position) else None


def pads_of(
    b: Builder, op: Operation, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """ONNX pads (all begins, then all ends) with `auto_pad` resolved. Source: the ONNX operator Conv."""
    auto = op.attributes.get("auto_pad", "NOTSET")
    axes = len(kernel)
    if auto in {"NOTSET", "VALID"}:
        return list(op.attributes.get("pads", [0] * 2 * axes)) if auto == "NOTSET" else [0] * 2 * axes
    begins, ends = [], []
    for size, k, stride, dilation in zip(b.fixed(op, op.inputs[0])[1:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        less = total // 2
        begins.append(less if auto == "SAME_UPPER" else total - less)
        ends.append(total - begins[-1])
    return begins + ends


def padded(b: Builder, x: Any, pads: Sequence[int], value: float = 0.0) -> tuple[Any, list[int]]:
    """Where both ends differ: the input padded by an operator of its own and no padding left; else x and the padding."""
    axes = len(pads) // 2
    if list(pads[:axes]) == list(pads[axes:]):
        return x, list(pads[:axes])
    turned = [pads[axes * end + axis] for axis in reversed(range(axes)) for end in (0, 1)]
    return b.call(F.pad, x, turned, "constant", value), [0] * axes


def conv(b: Builder, op: Operation) -> fx.Node:
    """Conv -> nn.Conv1d, 2d, 3d."""
    weight = as_tensor(b.need(op, 1, "weight"))
    bias = optional(b, op, 2, "bias")
    axes = weight.ndim - 2
    strides, dilations = (list(op.attributes.get(key, [1] * axes)) for key in ("strides", "dilations"))
    pads = pads_of(b, op, weight.shape[2:], strides, dilations)
    x, padding = padded(b, b.value(op.inputs[0]), pads)
    group = int(op.attributes.get("group", 1))
    if weight.ndim not in CONVOLUTIONS:
        raise op.refuse(f"{axes} axes")

    def make() -> nn.Module:
        module = CONVOLUTIONS[weight.ndim](
            weight.shape[1] * group, weight.shape[0], tuple(weight.shape[2:]), stride=tuple(strides),
            padding=tuple(padding), dilation=tuple(dilations), groups=group, bias=bias is not None,
        )  # fmt: skip
        return with_weights(module, weight=weight, bias=bias)

    return b.layer(op, op.inputs[1], make, x)


def conv_transpose(b: Builder, op: Operation) -> fx.Node:
    """ConvTranspose -> nn.ConvTranspose1d, 2d, 3d without padding, cropped to the size the file gives."""
    weight = as_tensor(b.need(op, 1, "weight"))
    bias = optional(b, op, 2, "bias")
    axes = weight.ndim - 2
    strides, dilations = (list(op.attributes.get(key, [1] * axes)) for key in ("strides", "dilations"))
    group = int(op.attributes.get("group", 1))
    ins, outs = b.fixed(op, op.inputs[0])[1:], b.fixed(op, op.outputs[0])[1:]
    begins = _crop(op, ins, outs, tuple(weight.shape[2:]), strides, dilations)
    full = [(i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(ins, strides, weight.shape[2:], dilations, strict=True)]
    ends = [f - begin - o for f, begin, o in zip(full, begins, outs, strict=True)]
    even = begins == ends and min(begins, default=0) >= 0

    def make() -> nn.Module:
        module = TRANSPOSED[weight.ndim](
            weight.shape[0], weight.shape[1] * group, tuple(weight.shape[2:]), stride=tuple(strides),
            padding=tuple(begins) if even else 0, dilation=tuple(dilations), groups=group, bias=bias is not None,
        )  # fmt: skip
        return with_weights(module, weight=weight, bias=bias)

    y = b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))
    if even:
        return y
    turned = [-cut for begin, end in zip(reversed(begins), reversed(ends), strict=True) for cut in (begin, end)]
    return b.call(F.pad, y, turned)


def _crop(
    op: Operation,
    ins: Sequence[int],
    outs: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """What falls away before each axis of a transposed convolution. Source: the ONNX operator ConvTranspose."""
    axes = len(kernel)
    auto = op.attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET" and "output_shape" not in op.attributes:
        return list(op.attributes.get("pads", [0] * 2 * axes))[:axes]
    total = [
        (i - 1) * s + (k - 1) * d + 1 - o for i, o, s, k, d in zip(ins, outs, strides, kernel, dilations, strict=True)
    ]
    if auto == "VALID":
        return [0] * axes
    return [less // 2 if auto == "SAME_UPPER" else less - less // 2 for less in total]


def gemm(b: Builder, op: Operation) -> fx.Node:
    """Gemm with a constant matrix -> nn.Linear; else matrix products."""
    alpha, beta = (float(op.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    x = b.value(op.inputs[0])
    x = b.call(torch.t, x) if op.attributes.get("transA") else x
    matrix, added = b.known(op.inputs[1]), b.known(op.input(2)) if op.input(2) else None
    if matrix is None or (op.input(2) and added is None):
        return _free_gemm(b, op, x, alpha, beta)
    weight = as_tensor(matrix) * alpha
    weight = weight if op.attributes.get("transB") else weight.t()
    bias = None if added is None else (as_tensor(added) * beta).broadcast_to(1, len(weight)).reshape(-1)

    def make() -> nn.Module:
        return with_weights(nn.Linear(weight.shape[1], len(weight), bias=bias is not None), weight=weight, bias=bias)

    return b.layer(op, op.inputs[1], make, x)


def _free_gemm(b: Builder, op: Operation, x: Any, alpha: float, beta: float) -> fx.Node:
    y = b.value(op.inputs[1])
    y = b.call(torch.t, y) if op.attributes.get("transB") else y
    product = b.call(torch.mul, b.call(torch.matmul, x, y), alpha)
    return b.call(torch.add, product, b.call(torch.mul, b.value(op.inputs[2]), beta)) if op.input(2) else product


def matmul(b: Builder, op: Operation) -> fx.Node:
    """MatMul with a constant matrix on the right -> nn.Linear without a bias; else torch.matmul."""
    matrix = b.known(op.inputs[1])
    if matrix is None or matrix.ndim != 2 or b.known(op.inputs[0]) is not None:
        return b.call(torch.matmul, b.value(op.inputs[0]), b.value(op.inputs[1]))
    return linear(b, op, as_tensor(matrix), None)


def linear(b: Builder, op: Operation, matrix: Tensor, bias: Tensor | None) -> fx.Node:
    """The product with a matrix of shape (inputs, outputs), and a bias of shape (outputs,) where there is one."""

    def make() -> nn.Module:
        return with_weights(
            nn.Linear(matrix.shape[0], matrix.shape[1], bias=bias is not None), weight=matrix.t(), bias=bias
        )

    return b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))


def batch_norm(b: Builder, op: Operation) -> fx.Node:
    """BatchNormalization -> nn.BatchNorm; ONNX's momentum is the share that stays, torch's the share that is new."""
    scale, shift, mean, variance = (as_tensor(b.need(op, i, "statistics")) for i in range(1, 5))
    rank = b.rank(op.inputs[0])
    if rank not in BATCH_NORMS:
        raise op.refuse(f"{rank} axes")

    def make() -> nn.Module:
        module = BATCH_NORMS[rank](
            len(scale),
            eps=float(op.attributes.get("epsilon", 1e-5)),
            momentum=1 - float(op.attributes.get("momentum", 0.9)),
        )
        return with_weights(module, weight=scale, bias=shift, running_mean=mean, running_var=variance)

    return b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))


def instance_norm(b: Builder, op: Operation) -> fx.Node:
    """InstanceNormalization -> nn.InstanceNorm with weights."""
    scale, shift = (as_tensor(b.need(op, i, "weights")) for i in (1, 2))
    rank = b.rank(op.inputs[0])
    if rank not in INSTANCE_NORMS:
        raise op.refuse(f"{rank} axes")

    def make() -> nn.Module:
        module = INSTANCE_NORMS[rank](len(scale), eps=float(op.attributes.get("epsilon", 1e-5)), affine=True)
        return with_weights(module, weight=scale, bias=shift)

    return b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))


def layer_norm(b: Builder, op: Operation) -> fx.Node:
    """LayerNormalization -> nn.LayerNorm."""
    scale, shift = as_tensor(b.need(op, 1, "scale")), optional(b, op, 2, "bias")
    axis = int(op.attributes.get("axis", -1)) % b.rank(op.inputs[0])
    shape = [int(size) for size in b.fixed(op, op.inputs[0])[axis - 1 :]]
    if list(scale.shape) != shape or axis == 0:
        raise op.refuse(f"a scale of shape {tuple(scale.shape)} for axes {shape}")

    def make() -> nn.Module:
        module = nn.LayerNorm(shape, eps=float(op.attributes.get("epsilon", 1e-5)), bias=shift is not None)
        return with_weights(module, weight=scale, bias=shift)

    return b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))


def group_norm(b: Builder, op: Operation) -> fx.Node:
    """GroupNormalization of opset 21 (a scale for each channel) -> nn.GroupNorm."""
    scale, shift = (as_tensor(b.need(op, i, "weights")) for i in (1, 2))
    channels, groups = b.fixed(op, op.inputs[0])[0], int(op.attributes["num_groups"])
    if len(scale) == groups != channels:
        scale, shift = (item.repeat_interleave(channels // groups) for item in (scale, shift))

    def make() -> nn.Module:
        return with_weights(
            nn.GroupNorm(groups, channels, eps=float(op.attributes.get("epsilon", 1e-5))), weight=scale, bias=shift
        )

    return b.layer(op, op.inputs[1], make, b.value(op.inputs[0]))


def prelu(b: Builder, op: Operation) -> fx.Node:
    """PRelu with one slope, or one for each channel -> nn.PReLU."""
    slope = b.known(op.inputs[1])
    if slope is None or (slope.size > 1 and slope.size != slope.shape[-(b.rank(op.inputs[0]) - 1)]):
        x, own = b.value(op.inputs[0]), b.value(op.inputs[1])
        return b.call(torch.where, b.call(torch.lt, x, 0), b.call(torch.mul, x, own), x)
    weight = as_tensor(np.ascontiguousarray(slope).reshape(-1))
    return b.layer(op, op.inputs[1], lambda: with_weights(nn.PReLU(len(weight)), weight=weight), b.value(op.inputs[0]))


def embedding(b: Builder, op: Operation) -> fx.Node:
    """Gather of rows of a constant table by computed indices -> nn.Embedding."""
    table = as_tensor(b.need(op, 0, "table"))

    def make() -> nn.Module:
        return with_weights(nn.Embedding(*table.shape), weight=table)

    key = Operation(kind="Embedding", name=op.name, inputs=("", op.inputs[0]), outputs=op.outputs, attributes={})
    ids = b.value(op.inputs[1])
    if not _is_fed(ids):
        ids = b.call(torch.remainder, ids, len(table))  # ONNX counts negative rows from the end
    return b.layer(key, op.inputs[0], make, ids)


def _is_fed(value: fx.Node) -> bool:
    """Whether a value is an input of the network, in another type at most. Its numbers are rows of the table."""
    while value.op == "call_method" and value.target == "to" and isinstance(value.args[0], fx.Node):
        value = value.args[0]
    return value.op == "placeholder"


WEIGHTED: Mapping[str, Handler] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "PRelu": prelu,
}
