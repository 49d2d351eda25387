"""Record and Run <-> compressed JSON. Reading validates every field against the dataclasses.

Record format history:
1  the dataclasses of `bench.records`. A field added later with a default needs no new version;
   a field renamed, removed or given another meaning does, with a step in `bench.store.upgrade`.
2  Record.precision and Record.execution say what was asked and what ran; of version 1 they are read from its
   facts. Run.revision is that of pressbench itself; version 1 had that of the folder the user stood in.
3  Record.calibration says what static int8 was calibrated on, which version 2 kept in its facts. Random inputs make a
   cell untrusted; version 2 trusted it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from bench.errors import Damaged, InvalidInput, first_line
from bench.records import Record, Run
from bench.store.remeasured import Remeasured
from bench.store.upgrade import upgrade_record, upgrade_run

RECORD_VERSION = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """The JSON of a cell."""

    record_version: int
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """The JSON of a run."""

    record_version: int
    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRemeasured:
    """The JSON of a cell that was measured again."""

    record_version: int
    again: Remeasured


RECORDS = TypeAdapter(StoredRecord)
AGAIN = TypeAdapter(StoredRemeasured)
RUNS = TypeAdapter(StoredRun)


def pack_record(record: Record) -> bytes:
    """The bytes of one cell. TypeError: a field has a value of another type than the dataclass says."""
    return pack(RECORDS, StoredRecord(record_version=RECORD_VERSION, record=record))


def pack_run(run: Run) -> bytes:
    """The bytes of one run. TypeError: as `pack_record`."""
    return pack(RUNS, StoredRun(record_version=RECORD_VERSION, run=run))


def pack_again(again: Remeasured) -> bytes:
    """The bytes of what was measured again. TypeError: as `pack_record`."""
    return pack(AGAIN, StoredRemeasured(record_version=RECORD_VERSION, again=again))


def unpack_again(packed: bytes, where: str) -> Remeasured:
    """Inverse of `pack_again`. Raises as `unpack_record`."""
    return unpack(AGAIN, packed, where).again


def unpack_record(packed: bytes, where: str) -> Record:
    """Inverse of `pack_record`, upgraded from older versions.

    Damaged; InvalidInput: written by a newer pressbench. `where` names it.
    """
    found = unpack(RECORDS, packed, where)
    return upgrade_record(found.record, found.record_version)


def unpack_run(packed: bytes, where: str) -> Run:
    """Inverse of `pack_run`, upgraded from older versions. Raises as `unpack_record`."""
    found = unpack(RUNS, packed, where)
    return upgrade_run(found.run, found.record_version)


def pack(adapter: TypeAdapter[T], value: T) -> bytes:
    """Compressed JSON that keeps NaN and infinities: pydantic's own writer would make them null.

    A byte of a file's name that is not UTF-8 becomes "?": JSON has no such text, and the row could not be read any more.
    """
    try:
        plain = adapter.dump_python(value, warnings="error", fallback=make_plain)
        text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
        return zlib.compress(text.encode(errors="replace"))
    except (PydanticSerializationError, TypeError) as error:
        raise TypeError(f"a record cannot be written as JSON: {error}") from error


def make_plain(value: object) -> dict[object, object]:
    """A dict of a read-only mapping inside free-form facts. TypeError: any other kind of value."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def unpack(adapter: TypeAdapter[T], packed: bytes, where: str) -> T:
    """The validated dataclass. Damaged; InvalidInput: of a version that this pressbench does not read."""
    try:
        text = zlib.decompress(packed)
        check_version(from_json(text)["record_version"], where)
        return adapter.validate_json(text, strict=True)
    except (zlib.error, ValidationError, ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{where} is damaged: {first_line(error)}; restore a copy of the store, or name another run"
        ) from error


def check_version(version: int, where: str) -> None:
    """InvalidInput: newer than this pressbench. ValueError: there was never such a version."""
    if version > RECORD_VERSION:
        raise InvalidInput(
            f"{where} has record version {version}, newer than the {RECORD_VERSION} this pressbench reads: upgrade it"
        )
    if version < 1:
        raise ValueError(f"record version {version} never existed")
