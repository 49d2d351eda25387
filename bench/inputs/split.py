"""Samples of a user's file in two parts that share none: those that judge, and those that calibrate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.inputs.given import read_given
from bench.types import TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """`arrays`: one for each input, samples first. `judging`, `kept`: positions of samples. `notes`: as in `Taken`."""

    arrays: tuple[Array, ...]
    judging: Array
    kept: Array
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many samples the file has."""
        return len(self.arrays[0])

    def judges(self, limit: int) -> tuple[Array, ...]:
        """At most `limit` samples to time and to judge with (0: all), in the file's order."""
        return tuple(array[self.judging[: limit or None]] for array in self.arrays)

    def calibration(self, limit: int) -> tuple[Array, ...]:
        """At most `limit` of the samples that do not judge."""
        return tuple(array[self.kept[:limit]] for array in self.arrays)


def split_given(
    file: Path, specs: Sequence[TensorSpec], *, seed: int, calibrates: bool, state: Collection[str] = ()
) -> Given:
    """All samples judge where nothing calibrates on them; else a seeded half of them, the larger one.

    Samples that are fed back one after another keep their order, so the first half judges. `state`: the inputs that
    are fed. Raises as `read_given`.
    """
    taken = read_given(file, specs, optional=state)
    count = len(taken.arrays[0])
    half = count - count // 2 if calibrates else count
    order = np.arange(count) if state else np.random.default_rng(seed).permutation(count)
    return Given(arrays=taken.arrays, judging=np.sort(order[:half]), kept=order[half:], notes=taken.notes)
