"""A .tflite file as tensors and operators: offsets checked, nothing executed, no runtime needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.formats.flatbuffer import Malformed, Table, root
from bench.formats.tflite_schema import KINDS, OPERATORS, Kind

Array = NDArray[np.generic]
SHARED = 64
"""How often one byte of a file may be read as weights of different tensors before the file is called hostile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor. `data` is None for an activation; `buffer` is where a constant's bytes are.

    `shape` is None where only a run can tell it. `scale_bytes`: bytes of its scales and zero points.
    """

    name: str
    shape: tuple[int, ...] | None
    kind: Kind
    buffer: int
    data: Array | None
    quantized: bool
    scale_bytes: int
    zero_points: Array
    axis: int
    sparse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator: its name, the tensors it reads (-1: an input left out) and writes, and its options."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The main subgraph of a file. `free`: its inputs with a free axis other than the batch."""

    file_bytes: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    free: tuple[str, ...]


def read(file: Path) -> Graph:
    """Raises `InvalidInput` for a file that is no TFLite model, is cut off, or points outside itself."""
    data = file.read_bytes()
    try:
        return _graph(root(data, b"TFL3"))
    except Malformed as error:
        raise InvalidInput(f"{file} is no TFLite model or is cut off: {error}") from error


def _graph(model: Table) -> Graph:
    names = [_operator_name(code) for code in model.tables(1)]
    main = next(model.tables(2), None)
    if main is None:
        raise Malformed("it has no graph")
    buffers = list(model.tables(4))
    inputs, outputs = _indexes(main, 1), _indexes(main, 2)
    records = list(main.tables(0))
    for index in (*inputs, *outputs):
        _at(records, index, "tensor")
    signatures = [_indexes(records[index], 7) for index in inputs]
    batched = any(-1 in signature for signature in signatures)
    tensors = tuple(_tensor(record, buffers, batched) for record in records)
    if sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None) > SHARED * len(model.data):
        raise Malformed("its tensors share buffers beyond all reason")
    operators = tuple(_operators(main, names, len(tensors)))
    if not operators:
        raise Malformed("its graph is empty")
    return Graph(
        file_bytes=len(model.data),
        tensors=tensors,
        operators=operators,
        inputs=inputs,
        outputs=outputs,
        free=tuple(tensors[i].name for i, axes in zip(inputs, signatures, strict=True) if -1 in axes[1:]),
    )


def _operator_name(code: Table) -> str:
    """Old files keep the code in a byte, newer ones in a wider field, and both may be there."""
    builtin = max(code.scalar(0, "b"), code.scalar(3, "i"))
    if not 0 <= builtin < len(OPERATORS):
        return f"BUILTIN_{builtin}"
    name = OPERATORS[builtin]
    return f"CUSTOM {code.text(1)}" if name == "CUSTOM" else name


def _indexes(table: Table, slot: int) -> tuple[int, ...]:
    """A vector of 32-bit integers."""
    return tuple(int(index) for index in table.numbers(slot, "i4"))


def _at(items: list[Table], index: int, what: str) -> Table:
    if not 0 <= index < len(items):
        raise Malformed(f"{what} {index} of {len(items)} is asked for")
    return items[index]


def _operators(main: Table, names: list[str], tensors: int) -> Iterator[Operator]:
    read = 0
    for record in main.tables(3):
        code, inputs, outputs = record.scalar(0, "I"), _indexes(record, 1), _indexes(record, 2)
        read += len(inputs) + len(outputs) + 1
        if code >= len(names) or read > len(main.data):
            raise Malformed(f"operator code {code} of {len(names)} is asked for")
        if any(not -1 <= index < tensors for index in inputs) or any(not 0 <= index < tensors for index in outputs):
            raise Malformed(f"an operator {names[code]} uses a tensor that is none of the {tensors}")
        yield Operator(name=names[code], inputs=inputs, outputs=outputs, options=record.table(4))


def _tensor(record: Table, buffers: list[Table], batched: bool) -> Tensor:
    name, code = record.text(3), record.scalar(1, "b")
    kind = KINDS.get(code, Kind(name=f"type {code}", bits=0))
    dims = _indexes(record, 0)
    if len(dims) > 32:
        raise Malformed(f"tensor {name!r} has {len(dims)} axes")
    if record.scalar(10, "I"):
        raise Malformed(f"tensor {name!r} is kept in another file")
    signature = _indexes(record, 7)
    known = min(dims, default=0) >= 0 and (batched or min(signature, default=0) >= 0)
    scales = record.table(4)
    buffer = record.scalar(2, "I")
    sparse = record.table(6) is not None
    raw = None if record.scalar(5, "B") else _bytes(_at(buffers, buffer, "buffer"))
    return Tensor(
        name=name,
        shape=dims if known else None,
        kind=kind,
        buffer=buffer,
        data=None if raw is None else _values(raw, kind, dims, name, sparse),
        quantized=scales is not None and scales.numbers(2, "f4").size > 0,
        scale_bytes=0 if scales is None else scales.numbers(2, "f4").nbytes + scales.numbers(3, "i8").nbytes,
        zero_points=np.empty(0, np.int64) if scales is None else scales.numbers(3, "i8"),
        axis=0 if scales is None else scales.scalar(6, "i"),
        sparse=sparse,
    )


def _bytes(buffer: Table) -> Array | None:
    """Bytes of a constant, inside the tables or (files over 2 GB) behind them; None where there are none."""
    inside = buffer.numbers(0, "u1")
    if inside.size:
        return inside
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset <= 1 or size == 0:
        return None
    if offset + size > len(buffer.data):
        raise Malformed(f"{size} bytes of weights at byte {offset} end outside the file")
    return np.frombuffer(buffer.data, dtype=np.uint8, count=size, offset=offset)


def _values(raw: Array, kind: Kind, dims: tuple[int, ...], name: str, sparse: bool) -> Array:
    """The numbers of a constant; for a type without numbers (strings) its bytes."""
    if kind.bits == 0:
        return raw
    wanted = (prod(dims) * kind.bits + 7) // 8
    if not sparse and raw.size != wanted:
        raise Malformed(f"tensor {name!r} needs {wanted} bytes and its buffer has {raw.size}")
    if kind.dtype:
        whole = raw.size - raw.size % (kind.bits // 8)
        return np.frombuffer(raw[:whole].tobytes(), dtype=np.dtype(kind.dtype).newbyteorder("<"))
    parts = [(raw.astype(np.int16) >> shift) & (2**kind.bits - 1) for shift in range(0, 8, kind.bits)]
    values = np.stack(parts, axis=-1).reshape(-1)[: prod(dims)]
    half = 2 ** (kind.bits - 1)
    return values if kind.name.startswith("U") else (values ^ half) - half
