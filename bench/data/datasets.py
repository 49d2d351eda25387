"""Data sets by name: one reader for each source, the same checks for all.

A new source is one function that returns `Arrays`, and one line in `_read`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.data.arrays import Arrays, check_arrays
from bench.data.digits import read_digits
from bench.data.idx_files import read_idx_set
from bench.data.parts import ArrayPart, Part
from bench.errors import InvalidInput
from bench.formats.npz_file import read_npz

IDX_NAMES = ("mnist", "fashion-mnist")
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: the digest of 188 MB is computed once and kept
class Dataset:
    """A classification data set, `name` being the text it is loaded by.

    Inputs are float32, (N, C, H, W) for images (0..1 for the built-in sets, as they come for a float .npz),
    (N, C, L) for windows of L samples or (N, features). Targets are int64 (N,), labels 0..classes-1.
    """

    name: str
    train: Part
    test: Part
    classes: int

    @cached_property
    def sample(self) -> tuple[np.ndarray, ...]:
        """The first sample to train with: an array for each input, (1, ...). It has the shapes and types of all."""
        return self.train.inputs(slice(0, 1))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return tuple(int(size) for size in self.sample[0].shape[1:])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content; the name plays no part."""
        digest = hashlib.sha256(str(self.classes).encode())
        every = slice(None)
        parts = ((*part.inputs(every), part.targets(every)) for part in (self.train, self.test))
        for array in (array for arrays in parts for array in arrays):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(name: str, root: Path | None = None) -> Dataset:
    """The data set called `digits`, `mnist`, `fashion-mnist`, or the .npz file at the path `name`.

    idx.gz files are looked for in `root`, `root/<name>` and `root/data/<name>`. An .npz holds
    x_train, y_train, x_test, y_test: inputs (N, C, H, W), (N, C, L) or (N, features), uint8 (divided
    by 255) or float (kept as is), without NaN; labels are integers from 0.

    Raises `InvalidInput`: unknown name, missing or damaged file, wrong shapes or values; names file and key.
    """
    found, classes = check_arrays(_read(name, root))
    return Dataset(
        name=name,
        train=ArrayPart((found.x_train,), found.y_train),
        test=ArrayPart((found.x_test,), found.y_test),
        classes=classes,
    )


def _read(name: str, root: Path | None) -> Arrays:
    if name == "digits":
        return read_digits()
    if name in IDX_NAMES:
        return read_idx_set(name, root)
    if name.endswith(".npz"):
        return Arrays(place=name, **read_npz(Path(name), NPZ_KEYS))
    raise InvalidInput(f"unknown data set {name!r} (known: digits, {', '.join(IDX_NAMES)}, or a path ending in .npz)")
