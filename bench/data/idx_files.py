"""MNIST-like data sets: four idx.gz files in one folder."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from bench.data.arrays import Arrays
from bench.errors import InvalidInput

MAX_BYTES = 2 * 2**30
"""Bytes that one file may inflate to."""


def read_idx_set(name: str, root: Path | None) -> Arrays:
    """The images and labels in `root`, `root/<name>` or `root/data/<name>`; bytes (N, 1, H, W) and (N,).

    Raises `InvalidInput` for a file that is missing, damaged, or larger than `MAX_BYTES`.
    """
    if root is None:
        raise InvalidInput(
            f"data set {name!r} needs the folder of its idx.gz files: give --data FOLDER or set PRESSBENCH_DATA"
        )
    folder = _folder(name, root)
    return Arrays(
        place=str(folder),
        x_train=(_read(folder / "train-images-idx3-ubyte.gz", dimensions=3)[:, None],),
        y_train=_read(folder / "train-labels-idx1-ubyte.gz", dimensions=1),
        x_test=(_read(folder / "t10k-images-idx3-ubyte.gz", dimensions=3)[:, None],),
        y_test=_read(folder / "t10k-labels-idx1-ubyte.gz", dimensions=1),
    )


def _folder(name: str, root: Path) -> Path:
    tried = [root, root / name, root / "data" / name]
    # `root` itself comes last: both sets use the same file names, so a folder named after the set wins.
    for folder in (*tried[1:], root):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    raise InvalidInput(
        f"data set {name!r}: no train-images-idx3-ubyte.gz in {', '.join(map(str, tried))}; "
        "give --data FOLDER or set PRESSBENCH_DATA"
    )


def _read(path: Path, *, dimensions: int) -> np.ndarray:
    """One idx file of bytes (big-endian header: 0, 0, 8, dimensions, then the sizes; LeCun's format)."""
    try:
        with gzip.open(path) as stream:
            shape = _shape(stream.read(4 + 4 * dimensions), dimensions, path)
            body = stream.read(prod(shape) + 1)
    except FileNotFoundError:
        raise InvalidInput(f"{path} is missing") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError, MemoryError) as error:
        raise InvalidInput(f"{path} is truncated or not a gzip file: {error}") from None
    if len(body) != prod(shape):
        held = "more" if len(body) > prod(shape) else len(body)
        raise InvalidInput(f"{path}: its header says {prod(shape)} bytes, it holds {held}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _shape(header: bytes, dimensions: int, path: Path) -> tuple[int, ...]:
    magic = 0x0800 + dimensions
    if len(header) < 4 + 4 * dimensions or struct.unpack(">I", header[:4])[0] != magic:
        raise InvalidInput(f"{path}: not an idx file of {dimensions} dimensions (magic {magic:#010x} wanted)")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if prod(shape) > MAX_BYTES:
        raise InvalidInput(f"{path}: its header says {prod(shape)} bytes, at most {MAX_BYTES} are read")
    return shape
