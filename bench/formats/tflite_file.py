"""The inputs and weighted layers of a .tflite file, read straight from its flatbuffer as untrusted input.

Field numbers: tensorflow/lite/schema/schema.fbs, version 3. Only what a model brought by a user
needs; counting costs is `bench.cost`'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InvalidInput
from bench.types import TensorSpec

DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
MODEL_SUBGRAPHS, SUBGRAPH_TENSORS, SUBGRAPH_INPUTS = 2, 0, 1
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_NAME, TENSOR_SIGNATURE = 0, 1, 3, 7


def tflite_inputs(file: Path) -> tuple[TensorSpec, ...]:
    """Inputs of the first subgraph, -1 for a free dimension.

    Raises `InvalidInput` for a file that is missing, truncated or no TFLite model.
    """
    if not file.is_file():
        raise InvalidInput(f"{file}: no such file; give the path of a .tflite model")
    data = file.read_bytes()
    if data[4:8] != b"TFL3":
        raise InvalidInput(f"{file}: truncated or no TFLite model (no TFL3 mark)")
    try:
        return _inputs(_Buffer(data=data), file)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise InvalidInput(f"{file}: truncated or damaged TFLite model") from None


def _inputs(buffer: _Buffer, file: Path) -> tuple[TensorSpec, ...]:
    subgraphs = buffer.tables(buffer.offset_at(0), MODEL_SUBGRAPHS)
    if not subgraphs:
        raise InvalidInput(f"{file}: the TFLite model has no subgraph")
    tensors = buffer.tables(subgraphs[0], SUBGRAPH_TENSORS)
    return tuple(_spec(buffer, tensors[index], file) for index in buffer.integers(subgraphs[0], SUBGRAPH_INPUTS))


def _spec(buffer: _Buffer, tensor: int, file: Path) -> TensorSpec:
    name = buffer.text(tensor, TENSOR_NAME)
    code = buffer.byte(tensor, TENSOR_TYPE)
    if code not in DTYPES:
        raise InvalidInput(f"{file}: input {name!r} has the element type {code}, which no benchmark can feed")
    free = buffer.integers(tensor, TENSOR_SIGNATURE)
    return TensorSpec(name=name, shape=free or buffer.integers(tensor, TENSOR_SHAPE), dtype=DTYPES[code])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buffer:
    """Just enough of the flatbuffer format: tables with a vtable, vectors, strings; little-endian.

    Every position is checked by `struct`, which refuses to read past the end or before the start.
    """

    data: bytes

    def offset_at(self, position: int) -> int:
        """Where the forward offset stored at `position` points."""
        return position + int(self._read("<I", position))

    def tables(self, table: int, number: int) -> tuple[int, ...]:
        """Positions of the tables in a vector field."""
        start, count = self._vector(table, number)
        return tuple(self.offset_at(start + 4 * index) for index in range(count))

    def integers(self, table: int, number: int) -> tuple[int, ...]:
        """A vector of int32."""
        start, count = self._vector(table, number)
        return tuple(int(self._read("<i", start + 4 * index)) for index in range(count))

    def text(self, table: int, number: int) -> str:
        """A string field; "" when absent."""
        start, count = self._vector(table, number)
        return self.data[start : start + count].decode()

    def byte(self, table: int, number: int) -> int:
        """A one-byte field; 0 when absent."""
        position = self._field(table, number)
        return int(self._read("<B", position)) if position else 0

    def _field(self, table: int, number: int) -> int:
        vtable = table - int(self._read("<i", table))
        slot = 4 + 2 * number
        if slot >= int(self._read("<H", vtable)):
            return 0
        relative = int(self._read("<H", vtable + slot))
        return table + relative if relative else 0

    def _vector(self, table: int, number: int) -> tuple[int, int]:
        position = self._field(table, number)
        if not position:
            return 0, 0
        start = self.offset_at(position)
        count = int(self._read("<I", start))
        if start + 4 + count > len(self.data):
            raise IndexError(count)
        return start + 4, count

    def _read(self, form: str, position: int) -> int:
        if position < 0:
            raise IndexError(position)
        value: int = struct.unpack_from(form, self.data, position)[0]
        return value
