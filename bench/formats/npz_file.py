"""An .npz file as untrusted input: every header is checked before any array is read, and nothing is unpickled.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bench.errors import InvalidInput
from bench.formats.zip_archive import check_archive

MAGIC = b"\x93NUMPY"
MAX_AXES = 32
CHUNK = 2**20
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
    TypeError,
    tokenize.TokenError,
)
"""What NumPy and zipfile raise at a file that is not an archive of arrays: RuntimeError at an oddly compressed one,
MemoryError, SyntaxError, TypeError and TokenError at an array's false header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an array's header says; `start` is where its values begin."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[np.generic]
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return prod(self.shape) * self.dtype.itemsize


def list_npz(file: Path) -> list[str]:
    """Names of the arrays, in their order. Raises `InvalidInput` for a missing, empty or damaged file, or no .npz."""
    with _opened(file, "the arrays") as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    if not names:
        raise InvalidInput(f"{file} holds no array: save them with numpy.savez")
    return names


def read_npz(file: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Raises `InvalidInput` for a file that is missing, damaged or not an .npz; a missing name; an array of
    objects, of more than 32 axes, or whose header does not fit its size; more compressed bytes than
    `bench.formats.zip_archive` allows.
    """
    with _opened(file, ", ".join(keys)) as archive:
        return _arrays(file, archive, keys)


@contextmanager
def _opened(file: Path, wanted: str) -> Iterator[zipfile.ZipFile]:
    if not file.is_file():
        raise InvalidInput(f"data file {file} does not exist")
    try:
        with file.open("rb") as stream:
            if stream.read(len(MAGIC)) == MAGIC:
                raise InvalidInput(f"{file} is one .npy array, not an .npz: save {wanted} with numpy.savez")
        with zipfile.ZipFile(file) as archive:
            yield archive
    except DAMAGE as error:
        raise InvalidInput(f"{file} cannot be read as .npz of plain arrays: {error}") from None


def _arrays(file: Path, archive: zipfile.ZipFile, keys: Sequence[str]) -> dict[str, np.ndarray]:
    there = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
    if missing := [key for key in keys if key not in there]:
        raise InvalidInput(f"{file}: {', '.join(missing)} missing (wanted: {', '.join(keys)})")
    members = {key: there[key] for key in keys}
    check_archive(file, members.values())
    headers = {}
    for key, member in members.items():
        with archive.open(member) as stream:
            headers[key] = _header(stream, member, f"{file}: {key}")
    return {key: _values(archive, members[key], header) for key, header in headers.items()}


def _header(stream: IO[bytes], member: zipfile.ZipInfo, place: str) -> Header:
    if stream.read(len(MAGIC)) != MAGIC:
        raise InvalidInput(f"{place} is not an array: save it with numpy.savez")
    version = tuple(stream.read(2))
    stream.seek(len(MAGIC) + 2)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise InvalidInput(f"{place} has .npy version {version}; 1.0 and 2.0 are read")
    shape, columns_first, dtype = readers[version](stream)
    if dtype.hasobject:
        raise InvalidInput(f"{place} holds Python objects, not a plain array of numbers; plain arrays are read")
    if len(shape) > MAX_AXES or min(shape, default=0) < 0:
        raise InvalidInput(f"{place} has shape {shape}; wanted up to {MAX_AXES} sizes, none negative")
    header = Header(shape=shape, columns_first=columns_first, dtype=dtype, start=stream.tell())
    if header.start + header.nbytes != member.file_size:
        raise InvalidInput(
            f"{place} has shape {shape} of {dtype}, {header.nbytes} bytes, "
            f"and the archive holds {member.file_size - header.start}"
        )
    return header


def _values(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header) -> np.ndarray:
    content, read = bytearray(header.nbytes), 0
    with archive.open(member) as stream:
        stream.read(header.start)
        while chunk := stream.read(CHUNK):  # to the end, where zipfile compares the checksum
            content[read : read + len(chunk)] = chunk
            read += len(chunk)
    if read != header.nbytes:
        raise EOFError(f"{member.filename} holds {read} bytes of {header.nbytes}")
    flat: np.ndarray = np.frombuffer(content, header.dtype)
    return flat.reshape(header.shape[::-1]).T if header.columns_first else flat.reshape(header.shape)
