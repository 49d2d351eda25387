"""Reads entropy-coded weights files from any source: checks every size before using it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.compress.coding import huffman
from bench.compress.coding.entropy import (
    BOUNDS,
    DTYPES,
    HASHED,
    MAGIC,
    MOST_IN_ROW,
    MOST_SHARED,
    PLAIN,
    RAW,
    ROWS,
    SHARED,
    SPARSE,
)
from bench.compress.coding.hashing import buckets
from bench.compress.coding.varint import Reader
from bench.errors import InvalidInput

Array = np.ndarray[Any, np.dtype[Any]]
MOST_TENSORS = 1 << 20
MOST_AXES = 16


def decode_weights(content: bytes, *, name: str = "weights file", limit_bytes: int = 1 << 28) -> dict[str, Array]:
    """The tensors of a weights file by name, bit for bit as `bench.compress.coding.entropy.encode_weights` got them.

    Raises `InvalidInput`, naming the file `name`, for content that is damaged, cut off or of another format, and
    for tensors that would take over `limit_bytes` of memory.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise InvalidInput(f"{name}: not a weights file: it does not begin with {MAGIC!r}")
    if len(content) < len(MAGIC) + 4 or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise InvalidInput(f"{name}: damaged or cut off: the checksum does not fit")
    reader = Reader(content[len(MAGIC) : -4], name)
    many = reader.varint(most=MOST_TENSORS, what="count of codebooks")
    books = [_values(reader, reader.varint(most=MOST_SHARED, what="size of a codebook")) for _ in range(many)]
    found: dict[str, Array] = {}
    left = limit_bytes
    for _ in range(reader.varint(most=MOST_TENSORS, what="count of tensors")):
        title, tensor = _tensor(reader, books, left)
        if title in found:
            raise InvalidInput(f"{name}: tensor {title!r} is there twice")
        found[title] = tensor
        left -= tensor.nbytes
    if reader.place != len(reader.content):
        raise InvalidInput(f"{name}: {len(reader.content) - reader.place} bytes follow the last tensor")
    return found


def _tensor(reader: Reader, books: list[Array], limit: int) -> tuple[str, Array]:
    try:
        title = reader.take(reader.varint(most=1 << 16, what="length of a name")).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{reader.name}: a tensor's name is not text: {error}") from error
    code, form = reader.take(2)
    if code >= len(DTYPES) or form > ROWS or (form == RAW) == (DTYPES[code] == "float32"):
        raise InvalidInput(f"{reader.name}: tensor {title!r} of unknown type {code} or form {form}")
    dtype = np.dtype(DTYPES[code])
    axes = reader.varint(most=MOST_AXES, what="count of axes")
    shape = [reader.varint(most=1 << 48, what="size of an axis") for _ in range(axes)]
    size = math.prod(shape)
    if max(size, *shape, 0) * dtype.itemsize > limit:
        raise InvalidInput(f"{reader.name}: tensor {title!r} of shape {tuple(shape)} would take over {limit} bytes")
    if form == RAW:
        raw = reader.take(size * dtype.itemsize)
        if dtype == np.bool_ and set(raw) - {0, 1}:
            raise InvalidInput(f"{reader.name}: tensor {title!r} has truth values that are neither 0 nor 1")
        return title, np.frombuffer(raw, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    return title, _bits(reader, title, form, shape, books).view(np.float32).reshape(shape)


def _bits(reader: Reader, title: str, form: int, shape: list[int], books: list[Array]) -> Array:
    """The float32 numbers of the flattened tensor, as bits."""
    size = math.prod(shape)
    if form == PLAIN:
        return _values(reader, size)
    if form == HASHED:
        return _hashed(reader, title, size)
    symbols, bound = _gaps(reader, size)
    count = int(np.count_nonzero(symbols < bound))
    if form == ROWS:
        return _by_rows(reader, symbols, bound, count, shape)
    assert form in (SPARSE, SHARED)
    values = _values(reader, count) if form == SPARSE else _shared(reader, title, count, books)
    bits = np.zeros(size, dtype=np.uint32)
    for places, part in _placed(symbols, bound):
        bits[places] = values[part]
    return bits


def _gaps(reader: Reader, size: int) -> tuple[Array, int]:
    """The runs of zeros as symbols, and the symbol of a longest run, after which no weight stands.

    Checks that they do not lead past the end of the tensor.
    """
    bound = reader.varint(most=BOUNDS[-1], what="longest run")
    if bound not in BOUNDS:
        raise InvalidInput(f"{reader.name}: {bound} is not one of the longest runs {BOUNDS}")
    symbols = huffman.decode(reader, bound + 1, most=size)
    reached = int(symbols.sum(dtype=np.int64)) + int(np.count_nonzero(symbols < bound))
    if reached > size or (len(symbols) and symbols[-1] == bound):
        raise InvalidInput(f"{reader.name}: runs of zeros that lead past the end of a tensor of {size} weights")
    return symbols, bound


def _shared(reader: Reader, title: str, count: int, books: list[Array]) -> Array:
    place = reader.varint(most=MOST_TENSORS, what="number of a codebook")
    if place >= len(books) or not len(books[place]):
        raise InvalidInput(f"{reader.name}: tensor {title!r} has codebook {place}, and there are {len(books)}")
    values: Array = books[place][_indices(reader, len(books[place]), count)]
    return values


def _by_rows(reader: Reader, symbols: Array, bound: int, count: int, shape: list[int]) -> Array:
    rows = shape[0] if shape else 1
    widest = reader.varint(most=MOST_IN_ROW, what="size of a row's codebook")
    if not rows or not widest:
        raise InvalidInput(f"{reader.name}: a tensor shared by rows without rows or without weights")
    books = _values(reader, rows * widest).reshape(rows, widest)
    indices = _indices(reader, widest, count)
    bits = np.zeros(math.prod(shape), dtype=np.uint32)
    for places, part in _placed(symbols, bound):
        bits[places] = books[places // (len(bits) // rows), indices[part]]
    return bits


def _indices(reader: Reader, alphabet: int, count: int) -> Array:
    indices = huffman.decode(reader, alphabet, most=count)
    if len(indices) != count:
        raise InvalidInput(f"{reader.name}: a tensor has {count} places for {len(indices)} weights")
    return indices


def _placed(symbols: Array, bound: int) -> Iterator[tuple[Array, slice]]:
    """Places of the weights, ascending, and which of the weights they are; in chunks, for the memory it takes."""
    place, taken = 0, 0
    for start in range(0, len(symbols), huffman.CHUNK):
        part = symbols[start : start + huffman.CHUNK].astype(np.int64)
        weights = part < bound
        ends = place + np.cumsum(part + weights)
        places = ends[weights] - 1
        yield places, slice(taken, taken + len(places))
        place, taken = int(ends[-1]), taken + len(places)


def _hashed(reader: Reader, title: str, size: int) -> Array:
    count = reader.varint(most=max(size, 1), what="count of buckets")
    seed = reader.varint(most=(1 << 63) - 1, what="seed")
    values = _values(reader, count)
    if not count:
        raise InvalidInput(f"{reader.name}: tensor {title!r} is shared by hash over no buckets")
    bits = np.zeros(size, dtype=np.uint32)
    for place, bucket in buckets(title, size, count, seed):
        bits[place] = values[bucket]
    return bits


def _values(reader: Reader, count: int) -> Array:
    (width,) = reader.take(1)
    if width not in (2, 4):
        raise InvalidInput(f"{reader.name}: numbers of {width} bytes, where 2 and 4 are allowed")
    raw = reader.take(width * count)
    if width == 2:
        return np.frombuffer(raw, dtype="<f2").astype(np.float32).view(np.uint32)
    return np.frombuffer(raw, dtype="<u4").astype(np.uint32)
