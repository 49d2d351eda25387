"""The one interface behind pruning, quantization, distillation, factorization and sharing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from bench.data.datasets import Dataset

from bench.compress.arguments import canonical, check
from bench.types import Json, Progress, QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What flows through a recipe.

    `masks`: parameter name -> 0/1 tensor of the parameter's shape; training steps keep masked
    weights at zero. `clusters`: parameter name -> int64 tensor of the parameter's shape, the
    cluster of each weight (-1: not shared); training steps keep equal what is shared.
    `quant`: what the runtime shall quantize itself. `notes`: figures a step wants in the record.
    """

    module: nn.Module
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    clusters: Mapping[str, Tensor] = field(default_factory=dict)
    quant: QuantSpec | None = None
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a step may use. `teacher` is the uncompressed, trained network: never change it.

    `data` is None for a model without a data set (steps that train say so with `Unsupported`);
    `example` is one input batch, float32 of shape (2, *input_shape).
    """

    teacher: nn.Module
    data: Dataset | None
    example: Tensor
    seed: int
    cache: Path
    progress: Progress
    calibration: np.ndarray | None = None


class Compressor(ABC):
    """One step of a recipe: a frozen dataclass (`repr=False`) whose fields are its arguments.

    Their types are `int`, `float`, `str`, `bool`, a `Literal` of texts or a tuple of one of these;
    `Annotated[float, Within(...)]` gives the range.

    Registered in the entry-point group `pressbench.compressors` under `name`. Laws: `apply`
    returns a new network and leaves its input untouched; the same seed gives the same bytes;
    `repr` is the canonical text that parses back to an equal step; arguments are checked in
    `__post_init__` (`InvalidInput` names the argument and what is allowed); what cannot be done
    to this network raises `Unsupported` with the reason.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """The paper or specification it follows."""
    trains: ClassVar[bool] = False
    """Whether it changes weights by training (and so needs a data set)."""
    looks_at_data: ClassVar[bool] = False
    """Whether it needs a data set although it trains nothing."""
    quantizes: ClassVar[bool] = False
    """Whether it sets `Network.quant`: the runtime quantizes the final weights, so nothing may follow it."""

    def __post_init__(self) -> None:
        check(self)

    def __repr__(self) -> str:
        return canonical(self)

    def sources(self) -> tuple[Path, ...]:
        """Files beside this package that the result follows from, as the source of a network it builds."""
        return ()

    @abstractmethod
    def apply(self, network: Network, context: Context) -> Network:
        """The compressed network."""


class Quantizer(Compressor):
    """A step that only says what the runtime shall quantize itself: it needs no torch, no data, no weights.

    It is the one kind of step that a model brought as a file can take.
    """

    quantizes: ClassVar[bool] = True

    @abstractmethod
    def spec(self) -> QuantSpec:
        """The quantization asked for."""

    @final
    def apply(self, network: Network, context: Context) -> Network:
        """The same weights with the wish attached."""
        del context
        return replace(network, quant=self.spec())
