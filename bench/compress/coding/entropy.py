"""The entropy-coded weights file: Huffman codes of shared weights and of the runs of zeros between them.

After Han et al. 2016, Deep Compression, arXiv:1510.00149, sections 2 to 4. docs/deep-compression.md describes the
format. Decoding gives back every bit that was encoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.compress.coding import huffman
from bench.compress.coding.hashing import buckets
from bench.compress.coding.varint import varint
from bench.errors import InvalidInput

Array = np.ndarray[Any, np.dtype[Any]]
MAGIC = b"PBW1"
DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
"""A type's code in the file is its index here."""
RAW, PLAIN, SPARSE, SHARED, HASHED, ROWS = range(6)
BOUNDS = (7, 15, 31, 63, 127, 255)
"""Choices for the longest run of zeros that one symbol stands for. A longer run takes several symbols."""
MOST_SHARED = 1 << 16
"""How many values a codebook can have."""
MOST_IN_ROW = 256
"""How many values a codebook of one row can have."""
SAMPLE = 1 << 20
"""How many gaps the choice of the longest run looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """Weights shared by `bench.compress.coding.hashing`, so the file need not say which weights share."""

    buckets: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A tensor and its form in the file. `body`: the bytes known so far. `values`, `book`: bits of shared weights."""

    name: str
    array: Array
    form: int
    body: bytes
    values: Array | None = None
    book: Array | None = None


def encode_weights(state: Mapping[str, Array], hashed: Mapping[str, Hashing] | None = None) -> bytes:
    """The content of a weights file with these tensors, each float32 one in its smallest form.

    `hashed`: tensors that may be shared by hash. One that turns out not to be is written like any other.
    Raises `InvalidInput` for a tensor of a type that the format does not have.
    """
    plans = [_plan(name, array, (hashed or {}).get(name)) for name, array in state.items()]
    books = _pooled([plan.book for plan in plans if plan.book is not None])
    parts = [MAGIC, varint(len(books)), *(varint(len(book)) + _values(book) for book in books), varint(len(plans))]
    for plan in plans:
        parts += [_header(plan), plan.body, _indices(plan, books)]
    content = b"".join(parts)
    return content + zlib.crc32(content).to_bytes(4, "little")


def _header(plan: _Plan) -> bytes:
    name = plan.name.encode()
    shape = plan.array.shape
    head = varint(len(name)) + name + bytes([DTYPES.index(plan.array.dtype.name), plan.form])
    return head + varint(len(shape)) + b"".join(varint(side) for side in shape)


def _plan(name: str, array: Array, hashing: Hashing | None) -> _Plan:
    if array.dtype.name not in DTYPES:
        raise InvalidInput(f"{name}: a weights file holds {', '.join(DTYPES)}, not {array.dtype.name}")
    plan = _Plan(name=name, array=array, form=RAW, body=b"")
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.name != "float32":
        return replace(plan, body=flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes())
    bits = flat.view(np.uint32)
    body = _hashed(name, bits, hashing) if hashing else None
    return replace(plan, form=HASHED, body=body) if body is not None else _smallest(plan, bits)


def _smallest(plan: _Plan, bits: Array) -> _Plan:
    """The form that takes the fewest bytes: plain, sparse, shared, or shared by rows."""
    places = np.flatnonzero(bits)
    values = bits[places]
    book = _codebook(values)
    if book is None and len(values) == len(bits):
        return replace(plan, form=PLAIN, body=_values(bits))
    gaps = np.diff(places, prepend=-1) - 1
    bound = min(BOUNDS, key=lambda some: _gap_bytes(gaps[:SAMPLE], some)) if gaps.any() else BOUNDS[0]
    runs = _gap_bytes(gaps, bound)
    sizes = {PLAIN: _values_bytes(bits), SPARSE: runs + _values_bytes(values)}
    if book is not None:
        counts = np.bincount(np.searchsorted(book, values), minlength=len(book))
        sizes[SHARED] = runs + 2 + huffman.coded_bytes(counts) + _values_bytes(book)
    rows = _by_rows(bits, plan.array.shape[0] if plan.array.ndim else 1)
    if rows is not None:
        sizes[ROWS] = runs + len(rows)
    form = min(sizes, key=lambda some: sizes[some])
    if form == PLAIN:
        return replace(plan, form=PLAIN, body=_values(bits))
    if form == SHARED:
        return replace(plan, form=SHARED, body=_gaps(gaps, bound), values=values, book=book)
    return replace(plan, form=form, body=_gaps(gaps, bound) + (_values(values) if form == SPARSE else rows or b""))


def _by_rows(bits: Array, rows: int) -> bytes | None:
    """A codebook for each row, padded with 0, and the index of each weight other than 0 in its row's codebook.

    None where the codebooks would be more than half of the weights.
    """
    most = min(MOST_IN_ROW, len(bits) // max(2 * rows, 1))
    books, indices = [], []
    for row in bits.reshape(rows, -1) if most else ():
        book, index = np.unique(row[row != 0], return_inverse=True)
        if len(book) > most:
            return None
        books.append(book)
        indices.append(index)
    widest = max(map(len, books), default=0)
    if not widest:
        return None
    table = np.zeros((rows, widest), dtype=np.uint32)
    for place, book in enumerate(books):
        table[place, : len(book)] = book
    return varint(widest) + _values(table.reshape(-1)) + huffman.encode(np.concatenate(indices), widest)


def _indices(plan: _Plan, books: list[Array]) -> bytes:
    if plan.book is None or plan.values is None:
        return b""
    own = plan.book
    place = next(place for place, book in enumerate(books) if _holds(book, own))
    return varint(place) + huffman.encode(np.searchsorted(books[place], plan.values), len(books[place]))


def _pooled(books: list[Array]) -> list[Array]:
    """Drops codebooks that another one contains, as happens when the whole network shares its weights."""
    kept: list[Array] = []
    for book in sorted(books, key=len, reverse=True):
        if not any(_holds(other, book) for other in kept):
            kept.append(book)
    return kept


def _holds(book: Array, other: Array) -> bool:
    """Whether `book` has every value of `other` and is not so large that its longer tables of code lengths cost more."""
    return len(book) < 9 * len(other) and bool(np.isin(other, book).all())


def _codebook(values: Array) -> Array | None:
    """The distinct bit patterns, sorted; None where there are too many to gain anything."""
    if not len(values):
        return None
    sample = values[:: max(1, len(values) // MOST_SHARED)]
    book = np.unique(sample)
    if 2 * len(book) > len(sample) < len(values):
        return None
    while len(book) <= min(MOST_SHARED, 3 * len(values) // 4):
        found = book[np.minimum(np.searchsorted(book, values), len(book) - 1)]
        missing = values[found != values]
        if not len(missing):
            return book
        book = np.union1d(book, missing[: 4 * MOST_SHARED])
    return None


def _gap_bytes(gaps: Array, bound: int) -> int:
    counts = np.bincount(gaps % bound, minlength=bound + 1)
    counts[bound] = int((gaps // bound).sum())
    return len(varint(bound)) + huffman.coded_bytes(counts)


def _gaps(gaps: Array, bound: int) -> bytes:
    """The number of zeros before each weight: `bound` as often as it fits, then the rest."""
    full = gaps // bound
    symbols = np.full(len(gaps) + int(full.sum()), bound, dtype=np.uint8)
    symbols[np.cumsum(full + 1) - 1] = gaps % bound
    return varint(bound) + huffman.encode(symbols, bound + 1)


def _hashed(name: str, bits: Array, hashing: Hashing) -> bytes | None:
    """One value per bucket; None where a bucket has several."""
    values = np.zeros(hashing.buckets, dtype=np.uint32)
    for place, bucket in buckets(name, len(bits), hashing.buckets, hashing.seed):
        values[bucket] = bits[place]
    for place, bucket in buckets(name, len(bits), hashing.buckets, hashing.seed):
        if np.any(values[bucket] != bits[place]):
            return None
    return varint(hashing.buckets) + varint(hashing.seed) + _values(values)


def _values(bits: Array) -> bytes:
    """float32 numbers, given as bits, as bytes: as float16 where that is exact."""
    if _fit_half(bits):
        return b"\2" + bits.view(np.float32).astype("<f2").tobytes()
    return b"\4" + bits.astype("<u4", copy=False).tobytes()


def _values_bytes(bits: Array) -> int:
    return 1 + len(bits) * (2 if _fit_half(bits) else 4)


def _fit_half(bits: Array) -> bool:
    with np.errstate(over="ignore"):
        for some in (bits[:4096], bits):
            numbers = some.view(np.float32)
            if np.any(numbers.astype(np.float16).astype(np.float32).view(np.uint32) != some):
                return False
    return True
