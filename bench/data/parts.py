"""The samples of one part of a data set, read as they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Choice = NDArray[np.integer[Any]] | slice
"""Which samples, in the order in which they come back."""


class Part(ABC):
    """Samples to train or to test with. A part may lie on disk: ask for no more samples at once than are needed."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """One array for each input of the network, samples first."""

    @abstractmethod
    def targets(self, chosen: Choice) -> Array:
        """What the network should answer, samples first: int64 labels (samples,) for a classification."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPart(Part):
    """Samples in memory: `x` has one array for each input."""

    x: tuple[Array, ...]
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """Views of the arrays where `chosen` is a slice, else copies."""
        return tuple(array[chosen] for array in self.x)

    def targets(self, chosen: Choice) -> Array:
        """A view where `chosen` is a slice, else a copy."""
        targets: Array = self.y[chosen]
        return targets
