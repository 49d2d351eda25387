"""Arrays in an uncompressed .npz, written and read a piece at a time: no memory holds them whole."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]
IN_MEMORY = 2**26
"""Bytes up to which what is collected or read stays in memory; more lies in a file."""
PIECE_BYTES = 2**24
"""About how much is read, written or computed in one piece."""
ALIGNED = 64
"""Values begin at a multiple of so many bytes, so that a mapped array is as fast as one in memory, and adds alike."""
LOCAL_HEADER = 30
"""Bytes of a zip member's own header before its name (APPNOTE.TXT 4.3.7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An array in a file, used like one in memory: a slice reads its rows. `start`: where the values begin."""

    file: Path
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice) -> Array:
        """A copy of consecutive rows."""
        first, end, step = chosen.indices(len(self))
        if step != 1:
            raise IndexError("rows of a stored array are read in their order")
        width, rows = prod(self.shape[1:]), max(0, end - first)
        place = self.start + first * width * self.dtype.itemsize
        values = np.fromfile(self.file, self.dtype, rows * width, offset=place)
        return values.reshape(rows, *self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return prod(self.shape) * self.dtype.itemsize

    def first(self, rows: int) -> Stored:
        """The array of its first rows, not read yet."""
        return replace(self, shape=(min(rows, len(self)), *self.shape[1:]))

    def load(self) -> Array:
        """All values: in memory where they are few, else pages of the file, which the system may drop at any time."""
        if self.nbytes > IN_MEMORY:
            return np.memmap(self.file, self.dtype, "r", self.start, self.shape)
        values: Array = np.fromfile(self.file, self.dtype, prod(self.shape), offset=self.start)
        return values.reshape(self.shape)


Samples = Array | Stored
"""The samples of one input, first axis the samples. Take consecutive rows of it."""


def first_rows(samples: Samples, rows: int) -> Samples:
    """The first rows, not read where they are stored."""
    return samples.first(rows) if isinstance(samples, Stored) else samples[:rows]


def as_array(samples: Samples) -> Array:
    """All rows as an array; pages of the file where they are many."""
    return samples.load() if isinstance(samples, Stored) else samples


def rows_at_once(sample_bytes: int) -> int:
    """How many samples of this size make a piece."""
    return max(1, PIECE_BYTES // max(1, sample_bytes))


def pieces_of(samples: Array | Sequence[Array]) -> Iterator[Array]:
    """All rows in order, about `PIECE_BYTES` at a time."""
    if not isinstance(samples, np.ndarray) or not samples.ndim:
        yield from samples if not isinstance(samples, np.ndarray) else (samples,)
        return
    rows = rows_at_once(samples[:1].nbytes)
    for start in range(0, len(samples), rows):
        yield samples[start : start + rows]


def open_stored(file: Path) -> dict[str, Stored]:
    """Every array of the file by its name, in order. Raises `OSError` or `ValueError` for a file that is not one of ours."""
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            return {
                member.filename.removesuffix(".npy"): _find_values(file, stream, member)
                for member in archive.infolist()
            }
    except (zipfile.BadZipFile, struct.error, RuntimeError, SyntaxError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{file.name} is not an .npz of plain arrays: {error}") from error


def _find_values(file: Path, stream: IO[bytes], member: zipfile.ZipInfo) -> Stored:
    stream.seek(member.header_offset)
    names = struct.unpack("<HH", stream.read(LOCAL_HEADER)[26:])
    begin = member.header_offset + LOCAL_HEADER + sum(names)
    stream.seek(begin)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, columns_first, dtype = readers.get(npy.read_magic(stream), npy.read_array_header_2_0)(stream)
    found = Stored(file=file, start=stream.tell(), dtype=dtype, shape=shape)
    whole = found.start - begin + found.nbytes == member.file_size and begin + member.file_size <= file.stat().st_size
    if member.compress_type != zipfile.ZIP_STORED or dtype.hasobject or not whole or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} is compressed, cut off, or no plain array")
    if columns_first and len(shape) > 1:
        raise ValueError(f"{member.filename} has its columns first")
    return found


def write_npz(file: Path, arrays: Mapping[str, Any]) -> None:
    """An uncompressed .npz of arrays under any names; `numpy.savez` takes a name like `file` for its own argument.

    Equal arrays give equal bytes.
    """
    with new_npz(file) as writer:
        for name, values in arrays.items():
            array = np.asanyarray(values)
            writer.add(name, array.shape, array.dtype, pieces_of(array))


@contextmanager
def new_npz(file: Path) -> Iterator[NpzWriter]:
    """An .npz to be filled array after array; it is whole when the context ends."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        yield NpzWriter(archive)


class NpzWriter:
    """Writes arrays into an .npz."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[Array]) -> None:
        """One array, `pieces` its values in order. Raises `ValueError` for more or fewer values, or for objects."""
        if dtype.hasobject:
            raise ValueError(f"{name} holds objects")
        with self._archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
            assert self._archive.fp is not None
            stream.write(_make_header(shape, dtype, self._archive.fp.tell()))
            left = prod(shape) * dtype.itemsize
            for piece in pieces:
                values = np.asarray(piece, dtype, order="C").tobytes()
                stream.write(values)
                left -= len(values)
        if left:
            raise ValueError(f"{name}: {left} bytes of shape {shape} were not given")


def _make_header(shape: tuple[int, ...], dtype: np.dtype[Any], place: int) -> bytes:
    """Of .npy format 1.0, filled up with blanks so that the values begin at a multiple of `ALIGNED`.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    said = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text, begin = repr(said).encode("latin1"), b"\x93NUMPY\x01\x00"
    size = len(text) + 1 + -(place + len(begin) + 2 + len(text) + 1) % ALIGNED
    return begin + struct.pack("<H", size) + text.ljust(size - 1) + b"\n"


class Spool:
    """Arrays of one type one after another: in memory while they are few, else in a nameless file in `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115 - closed when it is collected
        self.dtype: np.dtype[Any] | None = None
        self.shapes: list[tuple[int, ...]] = []

    def add(self, array: Array) -> None:
        """Keeps a copy. Raises `ValueError` for another type than the first one's."""
        self.dtype = self.dtype or array.dtype
        if array.dtype != self.dtype:
            raise ValueError(f"arrays of {self.dtype} and of {array.dtype}")
        self.shapes.append(array.shape)
        self._file.seek(0, 2)
        self._file.write(array.tobytes())

    def __iter__(self) -> Iterator[Array]:
        """Each array as it was added. Do not add or iterate meanwhile."""
        self._file.seek(0)
        assert self.dtype is not None or not self.shapes
        for shape in self.shapes:
            assert self.dtype is not None
            values = bytearray(self._file.read(prod(shape) * self.dtype.itemsize))
            yield np.frombuffer(values, self.dtype).reshape(shape)

    def flat(self) -> Array:
        """All values in one row: in memory, or pages of the file."""
        assert self.dtype is not None
        count = sum(map(prod, self.shapes))
        if count * self.dtype.itemsize <= IN_MEMORY:
            self._file.seek(0)
            return np.frombuffer(bytearray(self._file.read()), self.dtype)
        self._file.flush()
        return np.memmap(self._file, self.dtype, "r", shape=(count,))

    def joined(self) -> Array:
        """The arrays joined along their first axis. Raises `ValueError` where their other sizes differ."""
        tails = {shape[1:] for shape in self.shapes}
        if len(tails) != 1:
            raise ValueError(f"rows of shapes {sorted(tails)} cannot be joined")
        return self.flat().reshape(sum(shape[0] for shape in self.shapes), *tails.pop())
