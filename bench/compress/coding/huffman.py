"""Canonical Huffman coding of arrays of small whole numbers, in blocks that can be decoded at the same time."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from bench.compress.coding.varint import Reader, varint
from bench.errors import InvalidInput

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK = 1024
"""Symbols of a block. Blocks start at known bits, so the decoder steps through all of them at once."""
LONGEST = 48
"""Bits of the longest code. A longer one would need over 10^10 symbols."""
CHUNK = 1 << 20
"""Symbols packed at a time, to limit memory."""


def code_lengths(counts: Array) -> Array:
    """How many bits each symbol's code has, for these counts (Huffman 1952); 0 for a symbol that never occurs.

    A symbol that is the only one has a code of 0 bits. Ties go by order, so equal counts give equal codes.
    """
    present = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), dtype=np.uint8)
    if len(present) < 2:
        return lengths
    heap = [(int(counts[symbol]), leaf) for leaf, symbol in enumerate(present)]
    heapq.heapify(heap)
    parents = [0] * (2 * len(present) - 1)
    for node in range(len(present), len(parents)):
        first, left = heapq.heappop(heap)
        second, right = heapq.heapreplace(heap, (first + heap[0][0], node))
        del second
        parents[left] = parents[right] = node
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    lengths[present] = depths[: len(present)]
    return lengths


def codes_of(lengths: Array) -> Array:
    """The canonical codes: numbers ordered by length, then by symbol."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    codes = np.zeros(len(lengths), dtype=np.uint64)
    code, before = 0, 0
    for symbol in order.tolist():
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[symbol] = code
        code += 1
    return codes


def coded_bytes(counts: Array) -> int:
    """Size of what `encode` writes for symbols with these counts."""
    lengths = code_lengths(counts)
    total = int(counts.sum())
    bits = int(counts @ lengths.astype(np.int64))
    blocks = -(-total // BLOCK) if bits else 0
    return len(varint(total)) + len(_table(counts, lengths)) + 2 * blocks + (bits + 7) // 8


def encode(symbols: Array, alphabet: int) -> bytes:
    """Encodes numbers in [0, alphabet), one-dimensional: writes their count, the code's lengths, the bits of each block,
    and the codes."""
    counts = np.bincount(symbols, minlength=alphabet)
    lengths = code_lengths(counts)
    head = varint(len(symbols)) + _table(counts, lengths)
    if not lengths.any():
        return head
    bits = np.add.reduceat(lengths[symbols], np.arange(0, len(symbols), BLOCK), dtype=np.int64)
    return b"".join([head, bits.astype("<u2").tobytes(), _packed(symbols, codes_of(lengths), lengths)])


def decode(reader: Reader, alphabet: int, most: int) -> Array:
    """The numbers that `encode` was given, at most `most`. Raises `InvalidInput` for bytes it cannot have written."""
    count = reader.varint(most=most, what="count of symbols")
    lengths, only = _read_table(reader, alphabet)
    kind = np.uint8 if alphabet <= 1 << 8 else np.uint16
    if not lengths.any():
        return np.full(count, only, dtype=kind)
    if count == 0:
        raise InvalidInput(f"{reader.name}: a code for no symbols")
    blocks = -(-count // BLOCK)
    ends = np.cumsum(np.frombuffer(reader.take(2 * blocks), dtype="<u2").astype(np.int64))
    payload = reader.take(-(-int(ends[-1]) // 8))
    starts = np.concatenate([[0], ends[:-1]])
    found, reached = _unpacked(payload, lengths, starts, count - BLOCK * (blocks - 1))
    if np.any(reached != ends):
        raise InvalidInput(f"{reader.name}: a block of codes does not end where it says")
    return found.reshape(-1)[:count].astype(kind)


def _table(counts: Array, lengths: Array) -> bytes:
    """The only symbol where there is just one; else the lengths, two in a byte where all are below 16."""
    if not lengths.any():
        return b"\0" + varint(int(counts.argmax()) if len(counts) else 0)
    if lengths.max() < 16:
        pairs = np.append(lengths, np.zeros(len(lengths) % 2, dtype=np.uint8)).reshape(-1, 2)
        return b"\1" + bytes((pairs[:, 0] << 4 | pairs[:, 1]).astype(np.uint8))
    return b"\2" + lengths.tobytes()


def _read_table(reader: Reader, alphabet: int) -> tuple[Array, int]:
    """The lengths of the codes, and the symbol if there is only one; its lengths are all 0."""
    form = reader.take(1)[0]
    if form == 0:
        return np.zeros(alphabet, dtype=np.uint8), reader.varint(most=max(alphabet - 1, 0), what="symbol")
    if form == 1:
        pairs = np.frombuffer(reader.take(-(-alphabet // 2)), dtype=np.uint8)
        lengths = np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)[:alphabet]
    elif form == 2:
        lengths = np.frombuffer(reader.take(alphabet), dtype=np.uint8)
    else:
        raise InvalidInput(f"{reader.name}: a table of code lengths of unknown form {form}")
    used = lengths[lengths > 0].tolist()
    if not used or max(used) > LONGEST or sum(1 << (LONGEST - length) for length in used) != 1 << LONGEST:
        raise InvalidInput(f"{reader.name}: the code lengths do not make a complete code")
    return lengths, 0


def _packed(symbols: Array, codes: Array, lengths: Array) -> bytes:
    parts: list[bytes] = []
    held = np.zeros(0, dtype=np.uint8)
    for start in range(0, len(symbols), CHUNK):
        chosen = symbols[start : start + CHUNK]
        sizes = lengths[chosen].astype(np.int64)
        ends = len(held) + np.cumsum(sizes)
        bits = np.zeros(int(ends[-1]), dtype=np.uint8)
        bits[: len(held)] = held
        numbers = codes[chosen]
        for place in range(int(lengths.max())):
            some = np.flatnonzero(sizes > place)
            bits[ends[some] - 1 - place] = numbers[some] >> np.uint64(place) & np.uint64(1)
        whole = len(bits) // 8 * 8
        parts.append(np.packbits(bits[:whole]).tobytes())
        held = bits[whole:]
    return b"".join([*parts, np.packbits(held).tobytes()])


def _unpacked(payload: bytes, lengths: Array, starts: Array, last: int) -> tuple[Array, Array]:
    """Symbols of shape (blocks, BLOCK), and the bit where each block ended. The last block has `last` symbols."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    sizes, firsts = np.unique(lengths[order], return_index=True)
    codes = codes_of(lengths)
    lowest = codes[order[firsts]] << (64 - sizes).astype(np.uint64)
    windows: Array = np.ndarray((len(payload) + 1,), dtype=">u8", buffer=payload + b"\0" * 8, strides=(1,))
    positions = starts.copy()
    found = np.zeros((len(starts), BLOCK), dtype=np.uint16)
    for step in range(BLOCK if len(starts) > 1 else last):
        active = positions if step < last else positions[:-1]
        window = windows[np.minimum(active >> 3, len(payload))].astype(np.uint64) << (active & 7).astype(np.uint64)
        group = np.searchsorted(lowest, window, side="right") - 1
        size = sizes[group].astype(np.int64)
        offset = (window - lowest[group]) >> (64 - size).astype(np.uint64)
        found[: len(active), step] = order[firsts[group] + offset.astype(np.int64)]
        active += size
    return found, positions
