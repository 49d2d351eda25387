"""Low-rank factorization: layers become chains of smaller ones that compute nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from torch import nn

from bench.compress.arguments import Within
from bench.compress.factors import Cp, Factorization, Rank, Svd, Tucker
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weight_of, weighted_layers
from bench.compress.surgery import Site, sites, substitute
from bench.errors import InvalidInput, Unsupported

Share = Annotated[float | None, Within(low=0, high=1, open_low=True, open_high=True)]
METHODS: Mapping[str, Factorization] = {"svd": Svd(), "tucker": Tucker(), "cp": Cp()}


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lowrank(Compressor):
    """Writes each layer's weight as a product of smaller ones; a layer that would grow stays, and the notes say why.

    Linear layers and 1x1 convolutions by singular values; larger kernels by `method`: "svd" (of outputs
    against the rest), "tucker" (Tucker-2) or "cp". `layers` takes one kind only. The rank of each layer, by
    exactly one of: `rank_ratio`, a share of the full rank (of the channels for Tucker and CP); `energy`, the
    smallest that keeps this share of the squared weights; `macs_ratio`, the largest that keeps the layer's
    MACs within this share. Grouped and transposed convolutions stay. Fine-tune afterwards.
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
    layers: Literal["all", "linear", "convolution"] = "all"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        given = [value for value in (self.rank_ratio, self.energy, self.macs_ratio) if value is not None]
        if len(given) != 1:
            raise InvalidInput(f"{self!r}: give exactly one of rank_ratio, energy, macs_ratio")

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` when no layer can be made smaller, saying why for each."""
        named = weighted_layers(network.module, only=self.only, skip=self.skip)
        found = sites(network.module, named, context.example)
        chains: dict[str, nn.Module] = {}
        done: dict[str, str] = {}
        left: dict[str, str] = {}
        for name, layer in named.items():
            reason = _unfit(layer, found.get(name)) or self._not_asked(layer)
            if reason:
                left[name] = reason
                continue
            method, site = self._method(layer), found[name]
            rank = self._rank(method, site, context.seed)
            if isinstance(rank, str):
                left[name] = rank
                continue
            chains[name] = method.build(layer, rank, context.seed)
            done[name] = f"rank {_text(rank)}: {site.price.macs} -> {method.price(site, rank).macs} MACs"
        if not chains:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left.items())
            raise Unsupported(f"{self!r} makes no layer smaller ({reasons or 'the network has none with weights'})")
        result = substitute(network, chains, context.example)
        notes = {"factorized": done, "not factorized": left}
        merged = {key: {**network.notes.get(key, {}), **value} for key, value in notes.items()}
        return replace(result, notes={**network.notes, **merged})

    def _method(self, layer: nn.Module) -> Factorization:
        flat = isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1)
        return METHODS["svd" if flat else self.method]

    def _not_asked(self, layer: nn.Module) -> str:
        kind = "linear" if isinstance(layer, nn.Linear) else "convolution"
        return "" if self.layers in ("all", kind) else f"a {kind} layer, and layers={self.layers!r}"

    def _rank(self, method: Factorization, site: Site, seed: int) -> Rank | str:
        """The rank asked for, or why the layer is left alone."""
        if self.macs_ratio is not None:
            budget = self.macs_ratio * site.price.macs
            ranks = [rank for rank in method.ranks(site.layer) if _fits(method, site, rank, budget)]
            return ranks[-1] if ranks else f"even rank 1 needs over {self.macs_ratio:g} of its MACs or of its weights"
        if self.energy is not None:
            rank = method.energetic(site, self.energy, seed)
        else:
            assert self.rank_ratio is not None
            rank = method.share(site.layer, self.rank_ratio)
        if rank is None:
            return f"no smaller chain keeps {self.energy:g} of its squared weights"
        if not method.price(site, rank).below(site.price):
            return f"it would grow at rank {_text(rank)}: {_change(method, site, rank)}"
        return rank


def _unfit(layer: nn.Module, site: Site | None) -> str:
    """Why this kind of layer is never factorized; empty for one that may be."""
    if site is None:
        return "it never runs"
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"{type(layer).__name__} is neither Linear nor Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"a grouped convolution ({layer.groups} groups)"
    return "" if bool(weight_of(layer).any()) else "all its weights are zero"


def _fits(method: Factorization, site: Site, rank: Rank, budget: float) -> bool:
    price = method.price(site, rank)
    return price.below(site.price) and price.macs <= budget


def _change(method: Factorization, site: Site, rank: Rank) -> str:
    before, after = site.price, method.price(site, rank)
    return f"{before.params} -> {after.params} weights, {before.macs} -> {after.macs} MACs"


def _text(rank: Rank) -> str:
    return "x".join(map(str, rank))
