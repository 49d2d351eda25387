"""A hostile .tflite file of 1 MB that says 60 GB is refused: tables may share vectors, but not without end."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bench.errors import InvalidInput
from bench.formats.flatbuffer import SHARED, Malformed, Source
from bench.formats.tflite_file import read_tflite
from bench.formats.tflite_inputs import declared_inputs
from tests.limited import answer_of

SLOTS = 8


def table(content: bytearray, *slots: int) -> int:
    """Appends a vtable and a table that has these slots, their offsets still zero; where the table is."""
    content += bytes(-len(content) % 4)
    start = len(content)
    places = [4 + 4 * slot if slot in slots else 0 for slot in range(SLOTS)]
    content += struct.pack(f"<{2 + SLOTS}H", 4 + 2 * SLOTS, 4 + 4 * SLOTS, *places)
    at = len(content)
    content += struct.pack("<i", at - start) + bytes(4 * SLOTS)
    return at


def shared_names(count: int, length: int) -> bytes:
    """A graph of `count` tensors that are all the same one, with a name of `length` bytes.

    Offsets point forward, so the parts are laid out from the root on and their places filled in.
    """
    content = bytearray(struct.pack("<I4s", 0, b"TFL3"))
    root = table(content, 2, 4)
    graphs, buffers = len(content), len(content) + 8
    content += struct.pack("<II", 1, 0) + struct.pack("<II", 1, 0)
    graph = table(content, 0)
    tensors = len(content)
    content += struct.pack("<I", count) + bytes(4 * count)
    tensor = table(content, 3)
    name = len(content)
    content += struct.pack("<I", length) + b"n" * length + b"\0"
    empty = table(content)
    links = [(0, root), (root + 4 + 8, graphs), (root + 4 + 16, buffers), (graphs + 4, graph), (buffers + 4, empty)]
    links += [(graph + 4, tensors), (tensor + 4 + 12, name)]
    links += [(tensors + 4 + 4 * index, tensor) for index in range(count)]
    for place, target in links:
        content[place : place + 4] = struct.pack("<I", target - place)
    return bytes(content)


def test_tensors_that_share_a_long_name_are_refused_before_the_memory_is_full(tmp_path: Path):
    file = tmp_path / "m.tflite"
    file.write_bytes(shared_names(count=125_000, length=500_000))
    for reader in ("bench.cost.count.cost_of", "bench.formats.tflite_file.read_tflite"):
        module = reader.rpartition(".")[0]
        said, peak = answer_of(f"from pathlib import Path; import {module}; {reader}(Path({str(file)!r}))")
        assert said.startswith(
            f"InvalidInput: {file}: truncated, damaged or not a TFLite model: its tables share vectors"
        )
        assert peak < 400e6


def test_a_few_shared_names_get_as_far_as_the_missing_operators(tmp_path: Path):
    file = tmp_path / "m.tflite"
    file.write_bytes(shared_names(count=20, length=100))
    with pytest.raises(InvalidInput, match="its graph is empty"):
        declared_inputs(read_tflite(file), file)


def test_the_bytes_of_all_vectors_together_are_bounded():
    source = Source(data=bytes(10))
    for _ in range(SHARED):
        source.take(0, 10)
    with pytest.raises(Malformed, match="share vectors: more than 64 times the file's 10 bytes"):
        source.take(0, 1)
    with pytest.raises(Malformed, match="a vector of 6 bytes at byte 5 ends outside"):
        Source(data=bytes(10)).take(5, 6)
