"""The device side of a runtime: how it runs a model, and what it reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Json, Precision, Scalar, TensorSpec

Array = NDArray[np.generic]
Feed = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What really runs. Every entry of `fallbacks` makes the cell untrusted. `notes`: more, for people only."""

    version: str
    fallbacks: tuple[str, ...] = ()
    execution: Execution = field(default_factory=Execution)
    notes: Mapping[str, Json] = field(default_factory=dict)


class Session(ABC):
    """One model loaded into one runtime.

    Laws: two runs of one feed differ only by the random numbers that the network itself draws; `bind(feed)()` is
    exactly one inference, finished (synchronised with the device) when it returns, and leaves the session usable;
    arrays that `run` returns are the caller's to keep. A session never changes process-wide settings.
    """

    clock: ClassVar[Clock]
    """HOST: the timing loop's clock counts. DEVICE: `device_ns` counts, the host's is kept beside it."""

    @classmethod
    @abstractmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> Session:
        """Loads the artifact. `batch`: of a file that leaves it free. `precision`: what `facts` checks the run against.

        Raises `Unavailable` (runtime or device missing), `InvalidInput` (a file that cannot be read),
        `Unsupported` (an operator the runtime does not know).
        """

    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` wants, with concrete shapes and dtypes."""

    def outputs(self) -> tuple[str, ...]:
        """Names of what `run` returns, in its order; () where the runtime does not name them."""
        return ()

    @abstractmethod
    def run(self, feed: Feed) -> tuple[Array, ...]:
        """Outputs in the model's order."""

    @abstractmethod
    def bind(self, feed: Feed) -> Callable[[], object]:
        """Prepares everything that is not the inference itself; calling the result runs one."""

    def device_ns(self) -> int:
        """Duration of the last bound inference by the device's clock (sessions of clock DEVICE only)."""
        raise TypeError(f"{type(self).__name__} has no clock but the host's")

    @abstractmethod
    def facts(self) -> SessionFacts:
        """Checked after at least one `run`: what ran where, and every silent fallback found."""

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Per-node times; () where the runtime has no profiler, `Unavailable` where it cannot now. May open a second session."""
        del feed, runs
        return ()

    def explain_inexact(self, feeds: Sequence[Feed]) -> str:
        """That its kernels give other outputs for these feeds than the file's own arithmetic, and what helps; "" where
        they do not, or where the runtime has nothing to compare them with. May open a second session."""
        del feeds
        return ""

    def memory(self) -> Mapping[str, int]:
        """Device memory in bytes, each figure under its own name; {} for host-only runtimes."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Frees what the runtime holds."""
