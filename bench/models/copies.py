"""Copies and modes of networks, also of those whose code leaves tensors behind or whose `train` returns nothing."""

from __future__ import annotations

import copy
from typing import Any

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
