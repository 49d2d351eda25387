"""Some samples of a part, and a data set whose test set is those to choose with: choices never see the real one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from bench.data.datasets import Dataset
from bench.data.parts import Array, Choice, Part
from bench.errors import InvalidInput

SHARE = 0.2
"""Of the training set, kept back to choose with."""
LEAST = 20
"""Samples to choose with, at least."""


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Some(Part):
    """Some samples of a part, by their numbers."""

    whole: Part
    numbers: Array

    def __len__(self) -> int:
        return len(self.numbers)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """As the whole part gives them."""
        return self.whole.inputs(self.numbers[chosen])

    def targets(self, chosen: Choice) -> Array:
        """As the whole part gives them."""
        return self.whole.targets(self.numbers[chosen])


def draw_some(part: Part, count: int, seed: int) -> Part:
    """`count` samples of a part, a seeded choice in the part's order; the part itself where it has no more, or for 0.

    The first ones would be of one class where samples are sorted by class, as those of image folders are.
    """
    if not count or count >= len(part):
        return part
    order = np.random.default_rng(seed).permutation(len(part))
    return Some(whole=part, numbers=np.sort(order[:count]))


def hold_out(data: Dataset, seed: int) -> Dataset:
    """Tests on the data set's own validation samples. Where it has none it trains on 80 % of the training set and tests on
    the other 20 %, drawn with the seed.

    Raises `InvalidInput` where that is too little to choose with.
    """
    if data.validation is not None:
        if len(data.validation) < LEAST:
            raise InvalidInput(
                f"data set {data.name} has {len(data.validation)} validation samples; a search needs {LEAST} or more to choose with"
            )
        name = f"{data.name}, its validation samples"
        return replace(data, name=name, test=data.validation, validation=None, _turned={})
    count = round(SHARE * len(data.train))
    if count < LEAST:
        raise InvalidInput(
            f"data set {data.name} has {len(data.train)} samples to train with; a search keeps a fifth back to choose "
            f"with, and needs {round(LEAST / SHARE)} or more"
        )
    order = np.random.default_rng(seed).permutation(len(data.train))
    kept, used = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        data,
        name=f"{data.name}, a fifth of its training set",
        train=Some(whole=data.train, numbers=used),
        test=Some(whole=data.train, numbers=kept),
        _turned={},
    )
