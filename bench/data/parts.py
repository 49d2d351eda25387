"""The samples of one part of a data set, read as they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.tasks.base import Task

Array = NDArray[Any]
Choice = NDArray[np.integer[Any]] | slice
"""Which samples, in the order in which they come back."""
CHUNK_BYTES = 2**24
"""About how much of an array is looked at in one piece."""


class Hash(Protocol):
    """A digest that grows."""

    def update(self, data: Any, /) -> None:
        """Takes more bytes in."""


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

    def chunks(self, rows: int = 256) -> Iterator[slice]:
        """All samples in order, `rows` at a time."""
        return (slice(start, min(start + rows, len(self))) for start in range(0, len(self), rows))

    def digest_into(self, digest: Hash) -> None:
        """Takes the content of every sample into a digest."""
        for chunk in self.chunks():
            for array in (*self.inputs(chunk), self.targets(chunk)):
                update(digest, array)


@final
class Unseen(Part):
    """Samples that judge, for what must not look at them: raises `InvalidInput`."""

    def __len__(self) -> int:
        raise self._refusal

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """Raises."""
        del chosen
        raise self._refusal

    def targets(self, chosen: Choice) -> Array:
        """Raises."""
        del chosen
        raise self._refusal

    @property
    def _refusal(self) -> InvalidInput:
        return InvalidInput("a step of a recipe may not look at the test set, which judges it: use data.train")


@final
@dataclass(frozen=True, slots=True, eq=False)
class ArrayPart(Part):
    """Samples in memory, as the network takes them: `x` has one array for each input."""

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

    def digest_into(self, digest: Hash) -> None:
        """Array after array."""
        for array in (*self.x, self.y):
            update(digest, array)


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StoredPart(Part):
    """Samples as their source keeps them, in memory or on disk, converted where they are asked for.

    `x` and `y`: arrays, perhaps memory-mapped. `names`: how messages call them, the targets last.
    """

    x: tuple[Array, ...]
    y: Array
    task: Task
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """Copies, converted as `take_input` does."""
        return tuple(take_input(array[chosen], name) for array, name in zip(self.x, self.names, strict=False))

    def targets(self, chosen: Choice) -> Array:
        """A copy in the type that the task takes."""
        return self.task.take_targets(np.array(self.y[chosen]), self.names[-1])

    def chunks(self, rows: int = 0) -> Iterator[slice]:
        """All samples in order, about `CHUNK_BYTES` at a time unless `rows` says how many."""
        widest = max(array[:1].nbytes for array in (*self.x, self.y))
        return Part.chunks(self, rows or max(1, CHUNK_BYTES // max(1, widest)))

    def digest_into(self, digest: Hash) -> None:
        """Array after array, as `ArrayPart` does it of the same samples."""
        for place in range(len(self.x)):
            name = self.names[place]
            head = take_input(self.x[place][:1], name)
            digest.update(f"{head.dtype.str}{self.x[place].shape}".encode())
            for chunk in self.chunks():
                digest.update(np.ascontiguousarray(take_input(self.x[place][chunk], name)).data)
        head = self.targets(slice(0, 1))
        digest.update(f"{head.dtype.str}{(len(self), *head.shape[1:])}".encode())
        for chunk in self.chunks():
            digest.update(np.ascontiguousarray(self.targets(chunk)).data)

    def in_memory(self) -> ArrayPart:
        """All samples, converted once."""
        every = slice(None)
        return ArrayPart(self.inputs(every), self.targets(every))


def take_input(values: Array, place: str) -> Array:
    """Samples as a network takes them: bytes divided by 255 and floats as float32, other whole numbers as they are, in
    the byte order of this machine.

    Raises `InvalidInput` for any other type, and for NaN or infinity.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, np.float32) / np.float32(255)
    if values.dtype.kind in "iub":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if values.dtype.kind != "f":
        raise InvalidInput(f"{place} is {values.dtype}; wanted uint8 or a float type, or whole numbers as token ids")
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(converted).all():
        beyond = np.isfinite(values).all()
        raise InvalidInput(
            f"{place} holds {'values beyond float32: scale them' if beyond else 'NaN or infinite values'}"
        )
    return converted


def update(digest: Hash, array: Array) -> None:
    """Takes type, shape and values into a digest."""
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
