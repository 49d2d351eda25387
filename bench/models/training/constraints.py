"""What training keeps: masked weights at zero, shared weights equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What holds after every training step. Both map a parameter's name to a tensor of its shape.

    `masks`: 0 or 1; a weight at 0 stays zero. `clusters`: int64; weights with the same number stay equal,
    in one tensor or in several; -1 is in no cluster.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    clusters: Mapping[str, Tensor] = field(default_factory=dict)


FREE = Constraints()
"""No constraints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWeights:
    """The shared weights of one tensor: their `places` in C order and their cluster `ids`.

    Each cluster in `own_ids` takes its value from this tensor, at the same position of `own_places`.
    """

    name: str
    places: Tensor
    ids: Tensor
    own_ids: Tensor
    own_places: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """Constraints in the form the training loop uses: masks by name, and the members of `clusters` clusters."""

    masks: Mapping[str, Tensor]
    shared: tuple[SharedWeights, ...]
    clusters: int


def enforce(constraints: Constraints) -> Enforced:
    """Renumbers the clusters from 0. The same number in two tensors is one cluster.

    A masked weight is in no cluster: it is zero and does not count in the cluster's value.
    """
    found = {name: _free_members(constraints, name) for name in constraints.clusters}
    joined = torch.cat([ids for _, ids in found.values()]) if found else torch.zeros(0, dtype=torch.int64)
    used, numbers = joined.unique(return_inverse=True)
    seen = torch.zeros(len(used), dtype=torch.bool)
    shared = []
    for name, (places, ids) in found.items():
        renumbered, numbers = numbers[: len(ids)], numbers[len(ids) :]
        first = torch.full((len(used),), len(ids)).scatter_reduce(0, renumbered, torch.arange(len(ids)), "amin")
        own = ((first < len(ids)) & ~seen).nonzero().reshape(-1)
        seen[own] = True
        shared.append(
            SharedWeights(name=name, places=places, ids=renumbered, own_ids=own, own_places=places[first[own]])
        )
    return Enforced(masks=constraints.masks, shared=tuple(shared), clusters=len(used))


def _free_members(constraints: Constraints, name: str) -> tuple[Tensor, Tensor]:
    """Places and cluster numbers of the weights of one tensor that are shared and not masked."""
    ids = constraints.clusters[name]
    free = ids >= 0 if name not in constraints.masks else (ids >= 0) & (constraints.masks[name] != 0)
    places = free.reshape(-1).nonzero().reshape(-1)
    return places, ids.reshape(-1)[places]


def next_cluster(clusters: Mapping[str, Tensor]) -> int:
    """The first unused cluster number. Reusing a number would merge two clusters."""
    return max((int(ids.max()) + 1 for ids in clusters.values() if ids.numel()), default=0)


def tie_gradients(module: nn.Module, kept: Enforced) -> None:
    """Gives each shared weight the sum of its cluster's gradients, in place (Han et al. 2016, eq. 3)."""
    found = [(part, module.get_parameter(part.name).grad) for part in kept.shared]
    present = [(part, gradient) for part, gradient in found if gradient is not None]
    totals = torch.zeros(kept.clusters, dtype=torch.float64)
    for part, gradient in present:
        totals.index_add_(0, part.ids, gradient.take(part.places).double())
    for part, gradient in present:
        gradient.put_(part.places, totals.to(gradient.dtype)[part.ids])


@torch.no_grad()
def restore(module: nn.Module, kept: Enforced) -> None:
    """Makes shared weights equal and masked ones zero again, in place: rounding drives shared weights apart."""
    values = torch.zeros(kept.clusters, dtype=torch.float64)
    for part in kept.shared:
        values[part.own_ids] = module.get_parameter(part.name).take(part.own_places).double()
    for part in kept.shared:
        parameter = module.get_parameter(part.name)
        parameter.put_(part.places, values.to(parameter.dtype)[part.ids])
    for name, mask in kept.masks.items():
        module.get_parameter(name).mul_(mask)
