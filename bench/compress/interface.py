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
    from bench.models.tensors import Inputs
    from bench.models.training.constraints import Constraints

from bench.compress.arguments import canonical, check
from bench.types import Json, Progress, QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What one step hands to the next.

    `masks`: parameter name -> 0/1 tensor of its shape; training keeps masked weights at zero.
    `clusters`: parameter name -> int64 tensor of its shape, the cluster of each weight (-1: none); training
    keeps the weights of a cluster equal. `quant`: what the runtime must quantize itself. `notes`: figures for
    the record, by the names in `bench.compress.notes`.
    """

    module: nn.Module
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    clusters: Mapping[str, Tensor] = field(default_factory=dict)
    quant: QuantSpec | None = None
    notes: Mapping[str, Json] = field(default_factory=dict)

    @property
    def constraints(self) -> Constraints:
        """What training must keep of this network."""
        from bench.models.training.constraints import Constraints

        return Constraints(masks=self.masks, clusters=self.clusters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a step may use.

    `teacher`: the uncompressed, trained network; never change it. `data`: None for a model without a data
    set; steps that need one raise `Unsupported`. Its test set refuses to be read. `example`: one batch of two samples, a
    tensor for each input. `cache`: folder for what is worth keeping. `calibration`: up to 512 samples of the
    training set, an array for each input.
    """

    teacher: nn.Module
    data: Dataset | None
    example: Inputs
    seed: int
    cache: Path
    progress: Progress
    calibration: tuple[np.ndarray, ...] | None = None


class Compressor(ABC):
    """One step of a recipe: a frozen dataclass (`repr=False`) whose fields are its arguments.

    Their types are `int`, `float`, `str`, `bool`, a `Literal` of texts, or a tuple of one of these.
    `Annotated[float, Within(...)]` gives a range. Each step is registered in the entry-point group
    `pressbench.compressors` under its `name`.

    Laws:
    - `apply` returns a new network, keeps the notes it was given and leaves its input untouched.
    - The same seed gives the same bytes.
    - `repr` is the canonical text, and it parses back to an equal step.
    - `__post_init__` checks the arguments; `InvalidInput` names the argument and what is allowed.
    - What cannot be done to this network raises `Unsupported` with the reason.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """The paper or specification it implements."""
    trains: ClassVar[bool] = False
    """Whether it trains weights. It then needs a data set, and its result is cached for other recipes."""
    looks_at_data: ClassVar[bool] = False
    """Whether it needs a data set although it does not train."""
    quantizes: ClassVar[bool] = False
    """Whether it sets `Network.quant`: the runtime quantizes the final weights, so nothing may follow it."""

    def __post_init__(self) -> None:
        check(self)

    def __repr__(self) -> str:
        return canonical(self)

    def fit_widths(self, step: int) -> Compressor:
        """The same step with the widths that it leaves to the target chosen: multiples of `step` channels."""
        del step
        return self

    def sources(self) -> tuple[Path, ...]:
        """Files that the result depends on besides the step's own, as the source of a network it builds."""
        return ()

    def networks(self, context: Context) -> tuple[nn.Module, ...]:
        """Networks that the step brings in and that a user's function makes: it may load weights from files of any name.

        The result depends on these weights too. A file's network is not among them, nor one of ours.
        """
        del context
        return ()

    def renew_notes(self, before: Network, after: Network, step: Compressor) -> Mapping[str, Json]:
        """The notes of `after`, once a later `step` of the recipe has turned `before` into it.

        Override it for a note that other weights make wrong: measure it again, or drop it and say why.
        """
        del before, step
        return after.notes

    @abstractmethod
    def apply(self, network: Network, context: Context) -> Network:
        """The compressed network."""


class Quantizer(Compressor):
    """A step that only says what the runtime must quantize itself. It needs no torch, no data and no weights.

    A model brought as a file takes only steps of this kind.
    """

    quantizes: ClassVar[bool] = True

    @abstractmethod
    def spec(self) -> QuantSpec:
        """The quantization to ask the runtime for."""

    @final
    def apply(self, network: Network, context: Context) -> Network:
        """The same weights, with the quantization asked for attached."""
        del context
        return replace(network, quant=self.spec())
