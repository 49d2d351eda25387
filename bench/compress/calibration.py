"""Calibration samples: a seeded choice of the training set, or seeded random inputs, as .npz in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cache import find_or_make, key
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.formats.npz_file import write_npz
from bench.types import Json, TensorSpec

Array = NDArray[Any]
SAMPLES = "samples.npz"
POOL = 512
"""How many samples of the training set a step may look at (`Context.calibration`)."""


def calibration_file(
    inputs: tuple[TensorSpec, ...], samples: int, data: Dataset | None, cache: Path, seed: int, *, asked: bool = False
) -> tuple[Path, str]:
    """An .npz with `samples` inputs under each input's name, and a note that says where they come from.

    They are a seeded choice of the training set. A model that the data set does not fit gets seeded inputs,
    uniform in 0..1. Raises `Unsupported` if the user `asked` for a data set that does not fit.
    """
    unfit = misfit(inputs, data)
    if unfit and data is not None and asked:
        raise Unsupported(f"calibration with data set {data.name}: {unfit}; name one that fits, or none")
    fits = not unfit
    source = f"the training set of {data.name}" if fits and data else f"seeded random inputs ({unfit})"
    generator = np.random.default_rng(seed)
    if fits and data is not None:
        arrays = {inputs[0].name: drawn(data, samples, seed)}
    else:
        arrays = {item.name: _random_inputs(generator, item, samples) for item in inputs}

    def write(folder: Path) -> Mapping[str, Json]:
        write_npz(folder / SAMPLES, arrays)
        return {}

    file = find_or_make(cache, "calibration", _name(arrays), write).folder / SAMPLES
    count = len(next(iter(arrays.values())))
    return file, f"{count} samples of {source}, seed {seed}"


def pool(data: Dataset | None, seed: int) -> Array | None:
    """Up to `POOL` samples of the training set, a seeded choice; None without a data set."""
    return None if data is None else drawn(data, POOL, seed)


def drawn(data: Dataset, samples: int, seed: int) -> Array:
    """Up to `samples` inputs of the training set, a seeded choice. A larger number begins with the same inputs."""
    chosen: Array = data.x_train[np.random.default_rng(seed).permutation(len(data.x_train))[:samples]]
    return chosen


def misfit(inputs: tuple[TensorSpec, ...], data: Dataset | None, *, any_type: bool = False) -> str:
    """Why the data set cannot be the model's inputs; "" where it can.

    `any_type`: the runtime converts floats to the file's type, so the type need not match.
    """
    if data is None:
        return "no data set is named"
    if len(inputs) != 1:
        return f"the model has {len(inputs)} inputs, the data set one"
    (wanted,), given = inputs, data.x_train.dtype
    typed = any_type or np.dtype(wanted.dtype) == given
    if not typed or not _matches(wanted.shape[1:], data.input_shape):
        needs = ", ".join("any" if size == -1 else str(size) for size in wanted.shape[1:])
        return f"the model takes {wanted.dtype} ({needs}), the data set has {given} {data.input_shape}"
    return ""


def _matches(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(wanted) == len(given) and all(size in (-1, have) for size, have in zip(wanted, given, strict=True))


def _random_inputs(generator: np.random.Generator, spec: TensorSpec, samples: int) -> Array:
    """Floats uniform in 0..1; whole numbers 0 and 1, which are valid as index and as mask. Free sizes become 1."""
    if np.dtype(spec.dtype).kind not in "fiub":
        raise Unsupported(f"input {spec.name!r} is not numeric ({spec.dtype}): nothing can be drawn to calibrate on")
    shape = (samples, *(max(1, size) for size in spec.shape[1:]))
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.random(shape, dtype=np.float32).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def _name(arrays: Mapping[str, Array]) -> str:
    """Digest of the samples: names, types, shapes, values."""
    said = {name: [str(value.dtype), list(value.shape)] for name, value in arrays.items()}
    values = {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in arrays.items()}
    return key(arrays=said, values=values)
