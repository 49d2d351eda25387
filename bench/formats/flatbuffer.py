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


class Malformed(ValueError):  # noqa: N818 - said of a file
    """A file whose offsets or lengths point outside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table at byte `at` of `data`; `slot` counts the fields of its schema from 0, unions twice."""

    data: bytes
    at: int

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
        return None if place is None else _follow(self.data, place)

    def tables(self, slot: int) -> Iterator[Table]:
        """The tables of a vector."""
        start, count = self._vector(slot, 4)
        for index in range(count):
            yield _follow(self.data, start + 4 * index)

    def numbers(self, slot: int, dtype: str) -> NDArray[np.generic]:
        """The numbers of a vector; empty where the table leaves it out."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(slot, kind.itemsize)
        return np.frombuffer(self.data, dtype=kind, count=count, offset=start) if count else np.empty(0, dtype=kind)

    def text(self, slot: int) -> str:
        """A string; bytes that are no UTF-8 show as escapes."""
        start, count = self._vector(slot, 1)
        return self.data[start : start + count].decode("utf-8", errors="backslashreplace")

    def _vector(self, slot: int, width: int) -> tuple[int, int]:
        place = self.field(slot)
        if place is None:
            return 0, 0
        start = place + int(number(self.data, place, U32))
        count = int(number(self.data, start, U32))
        if start + 4 + count * width > len(self.data):
            raise Malformed(f"a vector of {count} values at byte {start} ends outside the file")
        return start + 4, count


def root(data: bytes, identifier: bytes) -> Table:
    """The outermost table of a file that carries this four-byte identifier."""
    if len(data) < 8 or data[4:8] != identifier:
        raise Malformed(f"it does not carry the identifier {identifier.decode()}")
    return _follow(data, 0)


def number(data: bytes, at: int, form: Struct) -> float:
    """A number at a position that must lie inside."""
    if at < 0 or at + form.size > len(data):
        raise Malformed(f"an offset points to byte {at} of {len(data)}")
    value: float = form.unpack_from(data, at)[0]
    return value


def _follow(data: bytes, place: int) -> Table:
    return Table(data=data, at=place + int(number(data, place, U32)))
