"""What a history takes from a run <-> bytes: three parts of compressed JSON. Nights whose parts are equal share what is read.

What a cell is called and what the nights measure of it is most of the text and hardly ever changes: it is read once.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.errors import InvalidInput
from bench.store.figures import Layout, Measured, NightFigures, State

HEAD = struct.Struct(">II")
"""Bytes of the first part and of the second; the third is the rest."""
LAYOUTS, STATES, MEASURED = TypeAdapter(Layout), TypeAdapter(State), TypeAdapter(Measured)
T = TypeVar("T")


@dataclass(slots=True)
class Seen:
    """Parts that were read before, by their bytes."""

    layouts: dict[bytes, Layout] = field(default_factory=dict)
    states: dict[bytes, State] = field(default_factory=dict)


def pack_figures(night: NightFigures) -> bytes:
    """The bytes of what a history takes from a run."""
    parts = [pack(LAYOUTS, night.layout), pack(STATES, night.state), pack(MEASURED, night.measured)]
    return b"".join((HEAD.pack(len(parts[0]), len(parts[1])), *parts))


def pack(adapter: TypeAdapter[Any], value: object) -> bytes:
    """Compressed JSON that keeps NaN and infinities."""
    return zlib.compress(json.dumps(adapter.dump_python(value), separators=(",", ":")).encode())


def unpack_figures(packed: bytes, where: str, seen: Seen) -> NightFigures:
    """Inverse of `pack_figures`. InvalidInput: damaged; `where` names it."""
    try:
        first, second = HEAD.unpack_from(packed)
        middle = HEAD.size + first
        layout, state = packed[HEAD.size : middle], packed[middle : middle + second]
        return NightFigures(
            layout=unpack_once(LAYOUTS, layout, seen.layouts),
            state=unpack_once(STATES, state, seen.states),
            measured=MEASURED.validate_json(zlib.decompress(packed[middle + second :]), strict=True),
        )
    except (struct.error, zlib.error, ValidationError, ValueError) as error:
        raise InvalidInput(f"{where} is damaged: {error}") from error


def unpack_once(adapter: TypeAdapter[T], packed: bytes, seen: dict[bytes, T]) -> T:
    """The value of a part, the same object as before where it was seen."""
    if packed not in seen:
        seen[packed] = adapter.validate_json(zlib.decompress(packed), strict=True)
    return seen[packed]
