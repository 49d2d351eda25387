"""Copies and modes of networks, also of those whose code leaves tensors behind or whose `train` returns nothing."""

from __future__ import annotations

import copy
from types import CellType
from typing import Any, cast

from torch import Tensor, nn
from torch.utils import _pytree as pytree


def duplicate(module: nn.Module) -> nn.Module:
    """A copy that shares no tensor with the network. What a call left in an attribute is copied without its history.

    torch refuses to copy a tensor that has one, as the features that `forward` keeps in `self.features` while it trains.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in pytree.tree_leaves(vars(part)):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def set_eval(module: nn.Module) -> nn.Module:
    """The same network in eval mode. A `train` of the user's own need not return the network, and then `eval` does not."""
    module.eval()
    return module


def without_compile(module: nn.Module) -> nn.Module:
    """The network itself behind `torch.compile`, and in it each layer itself that is compiled; changes the network in place.

    Every copy would be compiled again, and no hook would see the layers inside.
    """
    module = without_wrapper(module)
    for name, child in list(module._modules.items()):  # noqa: SLF001 - named_children leaves out a layer's second name
        if child is not None and (plain := without_compile(child)) is not child:
            setattr(module, name, plain)
    return module


def without_wrapper(module: nn.Module) -> nn.Module:
    """What `torch.compile` made the network of, the layers in it as they are; the network itself where it did not."""
    parts = module._modules  # noqa: SLF001 - an attribute of that name may be another's, as wrappers hand theirs on
    return cast("nn.Module", parts["_orig_mod"]) if "_orig_mod" in parts else module


def find_bound_hook(module: nn.Module) -> str:
    """The name of a layer with a hook whose closure holds this very network, a layer or a container of it; "" without one.

    A copy of the network calls that hook too, which then reads or fills the network that it was made for.
    """
    parts = dict(module.named_modules())
    held = [value for part in parts.values() for value in vars(part).values() if _changes(value)]
    own = {id(one) for one in (*parts.values(), *held)}
    for name, part in parts.items():
        hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001 - torch has no other way to list them
        cells = [cell for hook in hooks for cell in getattr(hook, "__closure__", None) or () if cell != CellType()]
        if any(id(cell.cell_contents) in own for cell in cells):
            return name or type(part).__name__
    return ""


def _changes(value: object) -> bool:
    """Whether it is a container that a hook may fill, or that differs in a copy: one of tensors or layers, or with nothing in it yet."""
    if not isinstance(value, (dict, list)):
        return False
    leaves = pytree.tree_leaves(value) if value else []
    return all(one is None for one in leaves) or any(isinstance(one, (Tensor, nn.Module)) for one in leaves)
