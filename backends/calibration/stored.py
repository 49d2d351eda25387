"""Calibration samples from the file that a recipe's samples were written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.types import TensorSpec


def read_samples(path: Path | None, specs: Sequence[TensorSpec], samples: int) -> list[NDArray[np.generic]]:
    """The first `samples` rows of each input, from an .npz by input name; a single input needs no name.

    Raises `InvalidInput` without a file, for a missing input, and where there are no samples or one is NaN or infinite.
    """
    if path is None:
        raise InvalidInput("static quantization needs calibration data, there is none")
    with np.load(path, allow_pickle=False) as stored:
        names = stored.files if len(specs) == len(stored.files) == 1 else [spec.name for spec in specs]
        if missing := sorted(set(names) - set(stored.files)):
            raise InvalidInput(f"{path}: no array for input {', '.join(missing)} (it has {', '.join(stored.files)})")
        arrays = [stored[name][:samples] for name in names]
    if not all(len(array) and np.isfinite(array).all() for array in arrays):
        raise InvalidInput(f"{path}: calibration data is empty or holds NaN or infinity")
    return arrays
