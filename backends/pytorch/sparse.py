"""2:4 weights on sparse tensor cores: which layers of a graph can, and putting them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import linear

from bench.errors import Unsupported

aten = torch.ops.aten
Pack = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Layers that run on sparse tensor cores, and why each other layer with a 2:4 weight does not."""

    packed: tuple[str, ...]
    dense: Mapping[str, str]


def is_two_four(weight: Tensor) -> bool:
    """Whether each run of 4 along the input axis (axis 1) has at least 2 zeros."""
    by_input = weight.detach().movedim(1, -1)
    if by_input.shape[-1] % 4:
        return False
    return bool(((by_input.reshape(-1, 4) != 0).sum(1) <= 2).all())


def pack_two_four(module: fx.GraphModule, pack: Pack = torch.sparse.to_sparse_semi_structured) -> Sparsity:
    """Packs, in place, the 2:4 weight of every Linear and every convolution that is one (1x1, stride 1).

    A graph without a 2:4 weight is left alone: it is the dense baseline. Raises `Unsupported` when
    there are 2:4 weights and none can run sparse.
    """
    packed: list[str] = []
    dense: dict[str, str] = {}
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in (aten.linear.default, aten.conv2d.default):
            continue
        target = str(node.args[1].target)
        if not is_two_four(module.get_parameter(target)):
            continue
        reason = _try(module, node, target, pack)
        if reason:
            dense[target.removesuffix(".weight")] = reason
        else:
            packed.append(target.removesuffix(".weight"))
    if dense and not packed:
        why = "; ".join(f"{name}: {reason}" for name, reason in dense.items())
        raise Unsupported(f"the weights are 2:4 and no layer can run on sparse kernels of torch ({why})")
    module.recompile()
    return Sparsity(packed=tuple(packed), dense=dense)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of (N, C, H, W) as a product over channels; `weight` is (out, in)."""
    return linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _try(module: fx.GraphModule, node: fx.Node, target: str, pack: Pack) -> str:
    """Packs one layer's weight. Returns the reason where it cannot, else ""."""
    weight = module.get_parameter(target).detach()
    convolution = node.target is aten.conv2d.default
    if convolution and not _is_product(node, weight):
        return "torch has no 2:4 convolution other than 1x1"
    try:
        sparse = pack(weight.flatten(1))
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    owner, _, leaf = target.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(sparse, requires_grad=False))
    if convolution:
        node.target, node.args = pointwise, node.args[:3]
        node.kwargs = {}
    return ""


def _is_product(node: fx.Node, weight: Tensor) -> bool:
    """Whether a convolution is a matrix product: 1x1, stride 1, no padding, one group."""
    plain: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    given = dict(zip(plain, node.args[3:], strict=False)) | dict(node.kwargs)
    asked = [given.get(name, plain[name]) for name in ("stride", "padding", "groups")]
    return list(weight.shape[2:]) == [1, 1] and asked == [plain["stride"], plain["padding"], plain["groups"]]
