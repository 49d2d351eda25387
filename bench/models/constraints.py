"""What training keeps: masked weights at zero, shared weights equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Parameter name -> mask or clusters of the parameter's shape, as in `bench.compress.interface.Network`."""

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    clusters: Mapping[str, Tensor] = field(default_factory=dict)


def tie_gradients(module: nn.Module, constraints: Constraints) -> None:
    """Each shared weight gets the sum of its cluster's gradients (Han et al. 2016, eq. 3), in place."""
    for name, clusters in constraints.clusters.items():
        gradient = module.get_parameter(name).grad
        if gradient is not None:
            _per_cluster(gradient, clusters, mean=False)


@torch.no_grad()
def restore(module: nn.Module, constraints: Constraints) -> None:
    """Masks and sharing hold again: rounding must not part what is shared."""
    for name, clusters in constraints.clusters.items():
        _per_cluster(module.get_parameter(name), clusters, mean=True)
    for name, mask in constraints.masks.items():
        module.get_parameter(name).mul_(mask)


@torch.no_grad()
def _per_cluster(values: Tensor, clusters: Tensor, *, mean: bool) -> None:
    """Replaces each shared value by its cluster's sum or mean."""
    shared = clusters >= 0
    ids = clusters[shared]
    if not len(ids):
        return
    totals = torch.zeros(int(ids.max()) + 1, dtype=torch.float64).index_add_(0, ids, values[shared].double())
    if mean:
        totals /= torch.bincount(ids, minlength=len(totals)).clamp(min=1)
    values[shared] = totals[ids].to(values.dtype)
