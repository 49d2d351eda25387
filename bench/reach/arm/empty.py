"""A session that does nothing: what the worker itself executes around one inference, counted once at setup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from bench.device.session import Array, Feed, Session, SessionFacts
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec


@final
class EmptySession(Session):
    """No model, no inference."""

    clock: ClassVar[Clock] = Clock.HOST

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> EmptySession:
        """Any file will do."""
        del path, threads, batch, options, precision
        return cls()

    def inputs(self) -> tuple[TensorSpec, ...]:
        """One number."""
        return (TensorSpec(name="x", shape=(1,)),)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """What came in."""
        return (np.asarray(feed["x"]),)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """The cheapest call Python has into C."""
        del feed
        return dict

    def facts(self) -> SessionFacts:
        """The interpreter that ran the worker."""
        return SessionFacts(version=np.__version__)

    def close(self) -> None:
        """Holds nothing."""
