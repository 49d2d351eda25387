"""What training keeps: masked weights at zero, shared weights equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The weights of one tensor that are shared: `places` counts as C order does, `ids` are their clusters.

    The value of each cluster in `own_ids` is that of this tensor's weight at the same place of `own_places`.
    """

    name: str
    places: Tensor
    ids: Tensor
    own_ids: Tensor
    own_places: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Masks by parameter name, and what is shared among `clusters` clusters."""

    masks: Mapping[str, Tensor]
    shared: tuple[Shared, ...]
    clusters: int


def constraints_of(masks: Mapping[str, Tensor], clusters: Mapping[str, Tensor]) -> Constraints:
    """Of masks and clusters as in `bench.compress.interface.Network`: one number in two tensors is one cluster.

    A masked weight is in no cluster: it is zero, and has no part in the others' value.
    """
    found = {}
    for name, ids in clusters.items():
        free = ids >= 0 if name not in masks else (ids >= 0) & (masks[name] != 0)
        places = free.reshape(-1).nonzero().reshape(-1)
        found[name] = places, ids.reshape(-1)[places]
    joined = torch.cat([ids for _, ids in found.values()]) if found else torch.zeros(0, dtype=torch.int64)
    used, numbers = joined.unique(return_inverse=True)
    seen = torch.zeros(len(used), dtype=torch.bool)
    shared = []
    for name, (places, ids) in found.items():
        renumbered, numbers = numbers[: len(ids)], numbers[len(ids) :]
        first = torch.full((len(used),), len(ids)).scatter_reduce(0, renumbered, torch.arange(len(ids)), "amin")
        own = ((first < len(ids)) & ~seen).nonzero().reshape(-1)
        seen[own] = True
        shared.append(Shared(name=name, places=places, ids=renumbered, own_ids=own, own_places=places[first[own]]))
    return Constraints(masks=masks, shared=tuple(shared), clusters=len(used))


def next_cluster(clusters: Mapping[str, Tensor]) -> int:
    """The first number no cluster has: one number in two tensors would be one cluster."""
    return max((int(ids.max()) + 1 for ids in clusters.values() if ids.numel()), default=0)


def tie_gradients(module: nn.Module, constraints: Constraints) -> None:
    """Each shared weight gets the sum of its cluster's gradients (Han et al. 2016, eq. 3), in place."""
    found = [(part, module.get_parameter(part.name).grad) for part in constraints.shared]
    present = [(part, gradient) for part, gradient in found if gradient is not None]
    totals = torch.zeros(constraints.clusters, dtype=torch.float64)
    for part, gradient in present:
        totals.index_add_(0, part.ids, gradient.take(part.places).double())
    for part, gradient in present:
        gradient.put_(part.places, totals.to(gradient.dtype)[part.ids])


@torch.no_grad()
def restore(module: nn.Module, constraints: Constraints) -> None:
    """Masks and sharing hold again: rounding must not part what is shared."""
    values = torch.zeros(constraints.clusters, dtype=torch.float64)
    for part in constraints.shared:
        values[part.own_ids] = module.get_parameter(part.name).take(part.own_places).double()
    for part in constraints.shared:
        parameter = module.get_parameter(part.name)
        parameter.put_(part.places, values.to(parameter.dtype)[part.ids])
    for name, mask in constraints.masks.items():
        module.get_parameter(name).mul_(mask)
