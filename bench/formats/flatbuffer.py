"""Reads FlatBuffers tables with every offset checked: a hostile file gives `Malformed`, never a crash.

Format: https://flatbuffers.dev/internals/. The public Python runtime verifies nothing (a negative
offset reads from the end of the buffer), and its generated accessors for TFLite come only with
LiteRT, which reading a file's cost should not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

U16, U32, I32 = Struct("<H"), Struct("<I"), Struct("<i")
SHARED = 64
"""How often one byte of a file may be read as part of different vectors before the file is called hostile."""


class Malformed(ValueError):  # noqa: N818 - said of a file
    """A file whose offsets or lengths point outside it."""


@dataclass(slots=True, kw_only=True)
class Source:
    """The bytes of a file, and how many of them its vectors have taken so far."""

    data: bytes
    taken: int = 0

    def take(self, start: int, size: int) -> None:
        """Accounts for a vector's bytes. Raises `Malformed` when they end outside the file or were shared too often.

        Tables may share a vector. Without a limit a file of 1 MB can say 60 GB that way.
        """
        if start + size > len(self.data):
            raise Malformed(f"a vector of {size} bytes at byte {start} ends outside the file")
        self.taken += size
        if self.taken > SHARED * len(self.data):
            raise Malformed(f"its tables share vectors: more than {SHARED} times the file's {len(self.data)} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table at byte `at` of a file; `slot` counts the fields of its schema from 0, unions twice."""

    source: Source
    at: int

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.source.data

    def field(self, slot: int) -> int | None:
        """Position of a field's value, None where the table leaves it out."""
        vtable = self.at - int(number(self.data, self.at, I32))
        entry = 4 + 2 * slot
        if entry + 2 > number(self.data, vtable, U16):
            return None
        offset = int(number(self.data, vtable + entry, U16))
        return self.at + offset if offset else None

    def scalar(self, slot: int, form: str, default: int = 0) -> int:
        """A number; `form` is its `struct` letter."""
        place = self.field(slot)
        return default if place is None else int(number(self.data, place, Struct("<" + form)))

    def table(self, slot: int) -> Table | None:
        """A table this one points at."""
        place = self.field(slot)
        return None if place is None else _follow(self.source, place)

    def tables(self, slot: int) -> Iterator[Table]:
        """The tables of a vector."""
        start, count = self._vector(slot, 4)
        for index in range(count):
            yield _follow(self.source, start + 4 * index)

    def numbers(self, slot: int, dtype: str) -> NDArray[np.generic]:
        """The numbers of a vector; empty where the table leaves it out."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(slot, kind.itemsize)
        return np.frombuffer(self.data, dtype=kind, count=count, offset=start) if count else np.empty(0, dtype=kind)

    def text(self, slot: int) -> str:
        """A string; bytes that are not UTF-8 show as escapes."""
        start, count = self._vector(slot, 1)
        return self.data[start : start + count].decode("utf-8", errors="backslashreplace")

    def _vector(self, slot: int, width: int) -> tuple[int, int]:
        place = self.field(slot)
        if place is None:
            return 0, 0
        start = place + int(number(self.data, place, U32))
        count = int(number(self.data, start, U32))
        self.source.take(start + 4, count * width)
        return start + 4, count


def root(data: bytes, identifier: bytes) -> Table:
    """The outermost table of a file that carries this four-byte identifier."""
    if len(data) < 8 or data[4:8] != identifier:
        raise Malformed(f"it does not carry the identifier {identifier.decode()}")
    return _follow(Source(data=data), 0)


def number(data: bytes, at: int, form: Struct) -> float:
    """A number at a position that must lie inside."""
    if at < 0 or at + form.size > len(data):
        raise Malformed(f"an offset points to byte {at} of {len(data)}")
    value: float = form.unpack_from(data, at)[0]
    return value


def _follow(source: Source, place: int) -> Table:
    return Table(source=source, at=place + int(number(source.data, place, U32)))
