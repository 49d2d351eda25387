"""Data sets in a folder of .npy files, named as the arrays of an .npz and read from the disk as samples are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data.arrays import Arrays
from bench.data.npz_sets import collect, find_inputs, keys_of
from bench.data.parts import Array
from bench.errors import InvalidInput


def is_npy_folder(folder: Path) -> bool:
    """Whether a folder holds x_train.npy or x_train.NAME.npy."""
    return folder.is_dir() and any(folder.glob("x_train*.npy"))


def read_npy_folder(folder: Path) -> Arrays:
    """Memory-mapped arrays. Raises `InvalidInput` for a file that is missing or not a plain array."""
    stems = sorted(file.stem for file in folder.glob("*.npy"))
    names = find_inputs(stems, str(folder))
    keys = keys_of(names, stems)
    unused = [f"{stem}.npy" for stem in stems if stem not in keys]
    return collect(str(folder), names, {key: _map(folder / f"{key}.npy") for key in keys}, unused)


def _map(file: Path) -> Array:
    if not file.is_file():
        raise InvalidInput(f"{file} is missing")
    try:
        found: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise InvalidInput(f"{file} cannot be read as .npy of plain numbers: {error}") from None
    return found
