"""The little of CUDA a session needs, whoever gives it: buffers, one stream, two events, a captured graph.

Travels to the device: standard library and numpy, Python 3.10.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bench.types import Json

Array = NDArray[np.generic]
Work = Callable[[], object]


class Device(ABC):
    """The first GPU CUDA shows this process. Addresses are plain integers; work goes to `stream`, a handle.

    Laws: `upload` and `download` return when the copy is done; `begin`, work, `end`, `wait` in this
    order make `elapsed_ns` the time between the two events. Raises `CellFailed` out of device memory.
    """

    gpu: str
    compute_capability: str
    stream: int

    @abstractmethod
    def allocate(self, size: int) -> int:
        """The address of `size` bytes (at least 1)."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Gives a buffer back."""

    @abstractmethod
    def upload(self, address: int, array: Array) -> None:
        """Copies a contiguous array to the device."""

    @abstractmethod
    def download(self, array: Array, address: int) -> None:
        """Fills a contiguous array from the device."""

    @abstractmethod
    def begin(self) -> None:
        """Records the first event."""

    @abstractmethod
    def end(self) -> None:
        """Records the second event."""

    @abstractmethod
    def wait(self) -> None:
        """Returns when the second event has happened."""

    @abstractmethod
    def synchronize(self) -> None:
        """Returns when everything on the stream is done."""

    @abstractmethod
    def elapsed_ns(self) -> int:
        """Between the two events."""

    @abstractmethod
    def capture(self, work: Work) -> Work:
        """What replays `work` as one CUDA graph. Raises `Unsupported` where it cannot be captured."""

    @abstractmethod
    def used_bytes(self) -> int:
        """Memory in use on the whole device, everybody's."""

    @abstractmethod
    def facts(self) -> Mapping[str, Json]:
        """Versions, for the record."""

    @abstractmethod
    def close(self) -> None:
        """Frees stream, events and graphs; buffers are their owners' to free."""
