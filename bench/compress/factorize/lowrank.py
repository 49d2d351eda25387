"""Low-rank factorization: replaces layers by chains of smaller ones that compute nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from torch import nn

from bench.compress.arguments import Within, named_counts
from bench.compress.factorize.cp import Cp
from bench.compress.factorize.factorization import Factorization
from bench.compress.factorize.ranks import Choice, Place, by_budget, by_energy, by_ranks, by_share
from bench.compress.factorize.svd import Svd
from bench.compress.factorize.tucker import Tucker
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import tied_layers, weight_of, weighted_layers
from bench.compress.notes import FACTORIZED, NOT_FACTORIZED, merged, reasons
from bench.compress.replace_layers import TIED, Site, sites, substitute_each
from bench.errors import InvalidInput, Unsupported

Share = Annotated[float | None, Within(low=0, high=1, open_low=True, open_high=True)]
METHODS: Mapping[str, Factorization] = {"svd": Svd(), "tucker": Tucker(), "cp": Cp()}


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lowrank(Compressor):
    """Writes each layer's weight as a product of smaller ones. A layer that would grow stays, and the notes say why.

    Linear layers and 1x1 convolutions use singular values. Larger kernels use `method`: "svd" (outputs against
    the rest), "tucker" (Tucker-2) or "cp". `layers`: which kind to factorize. Give exactly one of:

    - `rank_ratio`: the share of the full rank; of the channels for Tucker and CP.
    - `energy`: the smallest rank that keeps this share of the squared weights.
    - `macs_ratio`: the highest energy, the same for all layers, at which they need at most this share of
      their MACs together. Grouped and transposed convolutions stay, and their MACs count.
    - `ranks`: one text for each layer, `'layer=rank'`, by singular values. Layers that are not named stay.

    Fine-tune afterwards. CP takes minutes where layers have hundreds of channels. With `energy` it takes longer,
    because it fits many ranks.
    """

    name: ClassVar[str] = "lowrank"
    source: ClassVar[str] = (
        "Denton et al. 2014, arXiv:1404.0736; Kim et al. 2016 (Tucker-2), arXiv:1511.06530; "
        "Lebedev et al. 2015 (CP), arXiv:1412.6553; Zhang et al. 2016, arXiv:1505.06798"
    )
    method: Literal["svd", "tucker", "cp"] = "svd"
    rank_ratio: Share = None
    energy: Share = None
    macs_ratio: Share = None
    ranks: tuple[str, ...] = ()
    layers: Literal["all", "linear", "convolution"] = "all"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        given = [value for value in (self.rank_ratio, self.energy, self.macs_ratio) if value is not None]
        if len(given) + bool(self.ranks) != 1:
            raise InvalidInput(f"{self!r}: give exactly one of rank_ratio, energy, macs_ratio, ranks")
        if self.ranks and (self.method != "svd" or self.layers != "all" or self.only or self.skip):
            raise InvalidInput(f"{self!r}: ranks names its layers, and takes no other method than svd")
        named_counts(repr(self), self.ranks)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` if no layer can be made smaller, saying why for each."""
        only = self.only or tuple(named_counts(repr(self), self.ranks))
        named = weighted_layers(network.module, only=only, skip=self.skip)
        named = {name: layer for name, layer in named.items() if self.layers in ("all", _kind(layer))}
        found = sites(network.module, named, context.example)
        left = {name: _unfit(layer, found.get(name)) for name, layer in named.items()}
        left |= dict.fromkeys(tied_layers(network.module) & set(named), TIED)
        places = {
            name: Place(site=found[name], method=self._method(layer)) for name, layer in named.items() if not left[name]
        }
        chosen = self._choose(places, sum(site.price.macs for site in found.values()), context.seed)
        ranks = {name: rank for name, rank in chosen.items() if not isinstance(rank, str)}
        left = {name: str(chosen.get(name, reason)) for name, reason in left.items() if name not in ranks}
        if not ranks:
            raise Unsupported(f"{self!r} makes no layer smaller ({reasons(left) or 'there is none of its kind'})")
        chains = {name: places[name].method.build(named[name], rank, context.seed) for name, rank in ranks.items()}
        result, needed = substitute_each(network, chains, context.example)
        if needed and (self.macs_ratio is not None or self.ranks):
            raise Unsupported(f"{self!r}: {reasons(needed)}; leave {', '.join(needed)} out")
        done = {
            name: {"rank": list(rank), "macs": [places[name].site.price.macs, places[name].price(rank).macs]}
            for name, rank in ranks.items()
            if name not in needed
        }
        return replace(
            result, notes=merged(merged(network.notes, FACTORIZED, done), NOT_FACTORIZED, {**left, **needed})
        )

    def _method(self, layer: nn.Module) -> Factorization:
        flat = isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1)
        return METHODS["svd" if flat else self.method]

    def _choose(self, places: Mapping[str, Place], macs: int, seed: int) -> Choice:
        """Ranks, or reasons to stay. `macs`: what all named layers need, including those that stay."""
        if self.ranks:
            asked = named_counts(repr(self), self.ranks)
            return by_ranks(places, {name: asked[name] for name in places})
        if self.rank_ratio is not None:
            return by_share(places, self.rank_ratio)
        if self.energy is not None:
            return by_energy(places, self.energy, seed)
        assert self.macs_ratio is not None
        staying = macs - sum(place.site.price.macs for place in places.values())
        return by_budget(places, self.macs_ratio * macs - staying)


def _kind(layer: nn.Module) -> str:
    return "linear" if isinstance(layer, nn.Linear) else "convolution"


def _unfit(layer: nn.Module, site: Site | None) -> str:
    """Why a layer of this kind is never factorized; "" for one that can be."""
    if site is None:
        return "it never runs"
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"{type(layer).__name__} is neither Linear nor Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"a grouped convolution ({layer.groups} groups)"
    return "" if bool(weight_of(layer).any()) else "all its weights are zero"
