"""The hash of hashed weight sharing: which bucket each weight of a tensor falls into."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 1 << 20
WORD = (1 << 64) - 1


def buckets(name: str, size: int, count: int, seed: int) -> Iterator[tuple[slice, Array]]:
    """Chunks of a tensor's `size` weights, in C order, with the bucket of each weight, in [0, count).

    The bucket of weight i is mix(i + 2^32 crc32(name) + seed 0x9E3779B97F4A7C15 mod 2^64) mod `count`, where
    mix is the finaliser of SplitMix64 (Steele, Lea & Flood 2014): z ^= z >> 30, z *= 0xBF58476D1CE4E5B9,
    z ^= z >> 27, z *= 0x94D049BB133111EB, z ^= z >> 31.
    """
    offset = (zlib.crc32(name.encode()) * 2**32 + seed * 0x9E3779B97F4A7C15) & WORD
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        z = np.arange(start, stop, dtype=np.uint64) + np.uint64(offset)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        yield slice(start, stop), (z % np.uint64(count)).astype(np.int64)
