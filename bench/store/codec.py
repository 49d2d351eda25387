"""Record and Run <-> compressed JSON. Reading validates every field against the dataclasses.

Record format history:
1  the dataclasses of `bench.records`. A field added later with a default needs no new version;
   a field renamed, removed or given another meaning does, with a conversion here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from bench.errors import InvalidInput
from bench.records import Record, Run

RECORD_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """What the JSON of a cell says."""

    record_version: int
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What the JSON of a run says."""

    record_version: int
    run: Run


RECORDS = TypeAdapter(StoredRecord)
RUNS = TypeAdapter(StoredRun)


def pack_record(record: Record) -> bytes:
    """The bytes of one cell. TypeError: a field has a value of another type than the dataclass says."""
    return pack(RECORDS, StoredRecord(record_version=RECORD_VERSION, record=record))


def pack_run(run: Run) -> bytes:
    """The bytes of one run. TypeError: as `pack_record`."""
    return pack(RUNS, StoredRun(record_version=RECORD_VERSION, run=run))


def unpack_record(packed: bytes, where: str) -> Record:
    """Inverse of `pack_record`. InvalidInput: damaged, or written by a newer pressbench; `where` names it."""
    return unpack(RECORDS, packed, where).record


def unpack_run(packed: bytes, where: str) -> Run:
    """Inverse of `pack_run`. InvalidInput: as `unpack_record`."""
    return unpack(RUNS, packed, where).run


def pack(adapter: TypeAdapter[T], value: T) -> bytes:
    """Compressed JSON. NaN and infinities stay what they are: pydantic's own writer would make them null."""
    try:
        plain = adapter.dump_python(value, warnings="error", fallback=plain_mapping)
        return zlib.compress(json.dumps(plain, separators=(",", ":")).encode())
    except (PydanticSerializationError, TypeError) as error:
        raise TypeError(f"a record cannot be written as JSON: {error}") from error


def plain_mapping(value: object) -> dict[object, object]:
    """Read-only mappings inside free-form facts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def unpack(adapter: TypeAdapter[T], packed: bytes, where: str) -> T:
    """The validated dataclass, after checking that this version can read it."""
    try:
        text = zlib.decompress(packed)
        version = from_json(text)["record_version"]
        if version > RECORD_VERSION:
            raise InvalidInput(
                f"{where} has record version {version}, newer than the {RECORD_VERSION} this pressbench reads: upgrade it"
            )
        return adapter.validate_json(text, strict=True)
    except (zlib.error, ValidationError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{where} is damaged: {error}") from error
