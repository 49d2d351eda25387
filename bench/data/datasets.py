"""Data sets: the embedded digits, MNIST-like idx.gz folders, and any .npz; checked once, on loading."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.errors import InvalidInput

IDX_NAMES = ("mnist", "fashion-mnist")
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
)
"""What NumPy and zipfile raise at a file that is no archive of arrays: RuntimeError at an encrypted or oddly
compressed one, MemoryError, SyntaxError and TokenError at an array's false header."""


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: the digest of 188 MB is computed once and kept
class Dataset:
    """A classification data set, `name` being the text it is loaded by.

    `x_*`: float32, (N, C, H, W) for images (0..1 for the built-in sets, as they come for a float
    .npz), (N, C, L) for windows of L samples or (N, features); `y_*`: int64 (N,), labels 0..classes-1.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(int(size) for size in self.x_train.shape[1:])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content; the name plays no part."""
        digest = hashlib.sha256(str(self.classes).encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(name: str, root: Path | None = None) -> Dataset:
    """The data set called `digits`, `mnist`, `fashion-mnist`, or the .npz file at the path `name`.

    idx.gz files are looked for in `root`, `root/<name>` and `root/data/<name>`. An .npz holds
    x_train, y_train, x_test, y_test: inputs (N, C, H, W) or (N, features), uint8 (divided by 255)
    or float (kept as is), without NaN; labels are integers from 0.

    Raises `InvalidInput`: unknown name, missing or damaged file, wrong shapes or values; names file and key.
    """
    if name == "digits":
        return _digits()
    if name in IDX_NAMES:
        return _idx_set(name, root)
    if name.endswith(".npz"):
        return _npz_set(name)
    raise InvalidInput(f"unknown data set {name!r} (known: digits, {', '.join(IDX_NAMES)}, or a path ending in .npz)")


def _digits() -> Dataset:
    """1,797 hand-written digits, 8x8 (UCI, embedded in scikit-learn): 1,347 to train, 450 to test, stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    split = train_test_split(images, y.astype(np.int64), test_size=450, stratify=y, random_state=0)
    x_train, x_test, y_train, y_test = (np.ascontiguousarray(part) for part in split)
    return Dataset(name="digits", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=10)


def _idx_set(name: str, root: Path | None) -> Dataset:
    if root is None:
        raise InvalidInput(
            f"data set {name!r} needs the folder of its idx.gz files: give --data FOLDER or set PRESSBENCH_DATA"
        )
    folder = _idx_folder(name, root)
    arrays = {}
    for key, prefix in (("train", "train"), ("test", "t10k")):
        arrays[f"x_{key}"] = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
        arrays[f"y_{key}"] = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
    arrays["x_train"] = arrays["x_train"][:, None]
    arrays["x_test"] = arrays["x_test"][:, None]
    return _checked(name, str(folder), arrays)


def _idx_folder(name: str, root: Path) -> Path:
    tried = [root, root / name, root / "data" / name]
    # `root` itself comes last: both sets use the same file names, so a folder named after the set wins.
    for folder in (*tried[1:], root):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    raise InvalidInput(
        f"data set {name!r}: no train-images-idx3-ubyte.gz in {', '.join(map(str, tried))}; "
        "give --data FOLDER or set PRESSBENCH_DATA"
    )


def _read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """One idx file of bytes (big-endian header: 0, 0, 8, dimensions, then the sizes; LeCun's format)."""
    try:
        with gzip.open(path) as stream:
            header = stream.read(4 + 4 * dimensions)
            magic = 0x0800 + dimensions
            if len(header) < 4 + 4 * dimensions or struct.unpack(">I", header[:4])[0] != magic:
                raise InvalidInput(f"{path}: not an idx file of {dimensions} dimensions (magic {magic:#010x} wanted)")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            wanted = int(np.prod(shape, dtype=object))
            body = stream.read(wanted + 1)
    except FileNotFoundError:
        raise InvalidInput(f"{path} is missing") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError, OverflowError, MemoryError) as error:
        raise InvalidInput(f"{path} is truncated or no gzip file: {error}") from None
    if len(body) != wanted:
        raise InvalidInput(
            f"{path}: its header says {wanted} bytes, it holds {'more' if len(body) > wanted else len(body)}"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def _npz_set(name: str) -> Dataset:
    if not Path(name).is_file():
        raise InvalidInput(f"data file {name} does not exist")
    try:
        archive = np.load(name, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InvalidInput(f"{name} is one .npy array, no .npz: keep {', '.join(NPZ_KEYS)} with numpy.savez")
        with archive:
            if missing := [key for key in NPZ_KEYS if key not in archive]:
                raise InvalidInput(f"{name}: {', '.join(missing)} missing (wanted: {', '.join(NPZ_KEYS)})")
            arrays = {key: archive[key] for key in NPZ_KEYS}
    except DAMAGE as error:
        raise InvalidInput(f"{name} cannot be read as .npz of plain arrays: {error}") from None
    if foreign := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise InvalidInput(f"{name}: {', '.join(foreign)} is no array: keep it with numpy.savez")
    return _checked(name, name, arrays)


def _checked(name: str, place: str, arrays: dict[str, np.ndarray]) -> Dataset:
    inputs = {key: _inputs(arrays[key], f"{place}: {key}") for key in ("x_train", "x_test")}
    labels = {key: _labels(arrays[key], f"{place}: {key}") for key in ("y_train", "y_test")}
    for part in ("train", "test"):
        x, y = inputs[f"x_{part}"], labels[f"y_{part}"]
        if len(x) != len(y):
            raise InvalidInput(f"{place}: x_{part} has {len(x)} examples, y_{part} {len(y)}")
    bytes_in = {key: arrays[key].dtype == np.uint8 for key in inputs}
    if bytes_in["x_train"] != bytes_in["x_test"]:
        kinds = [arrays[key].dtype for key in ("x_train", "x_test")]
        raise InvalidInput(
            f"{place}: x_train is {kinds[0]}, x_test {kinds[1]}: uint8 is divided by 255, floats are kept; give both alike"
        )
    if inputs["x_train"].shape[1:] != inputs["x_test"].shape[1:]:
        shapes = (inputs["x_train"].shape[1:], inputs["x_test"].shape[1:])
        raise InvalidInput(f"{place}: x_train has inputs of shape {shapes[0]}, x_test {shapes[1]}")
    found = np.unique(labels["y_train"])
    if len(found) < 2:
        raise InvalidInput(f"{place}: y_train has {len(found)} class, at least 2 are needed")
    if found[-1] != len(found) - 1:
        lacking = next(label for label, seen in enumerate([*found, -1]) if label != seen)
        raise InvalidInput(
            f"{place}: y_train must use every label 0..{found[-1]}, it has {len(found)} of them and lacks {lacking}; "
            "labels count from 0"
        )
    if labels["y_test"].max() >= len(found):
        raise InvalidInput(f"{place}: y_test has label {labels['y_test'].max()}, y_train only 0..{len(found) - 1}")
    return Dataset(name=name, **inputs, **labels, classes=len(found))


def _inputs(x: np.ndarray, place: str) -> np.ndarray:
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        wanted = "(N, C, H, W), (N, C, L) or (N, features), none of them 0"
        raise InvalidInput(f"{place} has shape {x.shape}; wanted {wanted}")
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] == x.shape[2] > 4:
        raise InvalidInput(f"{place} has shape {x.shape}, which is channels last; wanted (N, C, H, W)")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x, np.float32) / np.float32(255)
    if not np.issubdtype(x.dtype, np.floating):
        raise InvalidInput(f"{place} is {x.dtype}; wanted uint8 or a float type")
    converted = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(converted).all():
        raise InvalidInput(f"{place} holds NaN or infinite values")
    return converted


def _labels(y: np.ndarray, place: str) -> np.ndarray:
    if y.ndim != 1 or len(y) == 0:
        raise InvalidInput(f"{place} has shape {y.shape}; wanted (N,), N > 0")
    if not np.issubdtype(y.dtype, np.integer):
        raise InvalidInput(f"{place} is {y.dtype}; wanted integers")
    if y.min() < 0:
        raise InvalidInput(f"{place} has label {y.min()}; labels start at 0")
    return y.astype(np.int64)
