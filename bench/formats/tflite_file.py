"""A .tflite file as tensors, operators and inputs: offsets checked, nothing executed, no runtime needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput
from bench.formats.flatbuffer import Malformed, Table, root
from bench.formats.tflite_schema import KINDS, OPERATORS, Kind

Array = NDArray[np.generic]
MAX_AXES = 32
"""Axes one tensor may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor. `raw`: the bytes of a constant, None for an activation; `buffer`: where in the file they are.

    `dims` are the sizes as stored, `signature` those with -1 for a free axis (empty where the file has
    none). `shape` is None where only a run shows it. `scale_bytes`: bytes of its scales and zero points.
    """

    name: str
    dims: tuple[int, ...]
    signature: tuple[int, ...]
    shape: tuple[int, ...] | None
    kind: Kind
    buffer: int
    raw: Array | None
    quantized: bool
    scales: Array
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
class Signature:
    """A named way to call a file: which of its subgraphs, and the names of that graph's tensors by position."""

    name: str
    graph: int
    inputs: Mapping[int, str]
    outputs: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One subgraph of a file, the main one is number 0; `inputs` and `outputs` are positions in `tensors`.

    `signatures`: those of the whole file.
    """

    file_bytes: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    number: int = 0
    signatures: tuple[Signature, ...] = ()

    def free_inputs(self) -> list[str]:
        """Names of the inputs with a free axis other than the batch."""
        return [self.tensors[index].name for index in self.inputs if -1 in self.tensors[index].signature[1:]]


def read_tflite(file: Path, number: int = 0) -> Graph:
    """A graph of a file, the main one if no other is named.

    Raises `InvalidInput` for a file that is missing, truncated, not a TFLite model, or points outside itself.
    """
    if not file.is_file():
        raise InvalidInput(f"{file}: no such file; give the path of a .tflite model")
    try:
        return _graph(root(file.read_bytes(), b"TFL3"), number)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}; make it readable") from error
    except Malformed as error:
        raise InvalidInput(f"{file}: truncated, damaged or not a TFLite model: {error}") from error


def _graph(model: Table, number: int) -> Graph:
    names = [_operator_name(code) for code in model.tables(1)]
    graphs = list(model.tables(2))
    if not graphs:
        raise Malformed("it has no graph")
    main = _at(graphs, number, "graph")
    buffers = list(model.tables(4))
    inputs, outputs = _indexes(main, 1), _indexes(main, 2)
    records = list(main.tables(0))
    for index in (*inputs, *outputs):
        _at(records, index, "tensor")
    batched = any(-1 in _axes(records[index], 7) for index in inputs)
    tensors = tuple(_tensor(record, buffers, batched) for record in records)
    operators = tuple(_operators(main, names, len(tensors)))
    if not operators:
        raise Malformed("its graph is empty")
    return Graph(
        file_bytes=len(model.data),
        tensors=tensors,
        operators=operators,
        inputs=inputs,
        outputs=outputs,
        number=number,
        signatures=tuple(_signature(record) for record in model.tables(7)),
    )


def _signature(record: Table) -> Signature:
    """A name and the names of tensors; a file may leave all of it out."""
    inputs, outputs = ({item.scalar(1, "I"): item.text(0) for item in record.tables(slot)} for slot in (0, 1))
    return Signature(name=record.text(2), graph=record.scalar(4, "I"), inputs=inputs, outputs=outputs)


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
    for record in main.tables(3):
        code, inputs, outputs = record.scalar(0, "I"), _indexes(record, 1), _indexes(record, 2)
        if code >= len(names):
            raise Malformed(f"operator code {code} of {len(names)} is asked for")
        if any(not -1 <= index < tensors for index in inputs) or any(not 0 <= index < tensors for index in outputs):
            raise Malformed(f"an operator {names[code]} uses a tensor outside the {tensors} there are")
        yield Operator(name=names[code], inputs=inputs, outputs=outputs, options=record.table(4))


def _axes(record: Table, slot: int) -> tuple[int, ...]:
    """Sizes of a tensor."""
    found = _indexes(record, slot)
    if len(found) > MAX_AXES:
        raise Malformed(f"tensor {record.text(3)!r} has {len(found)} axes, at most {MAX_AXES} are read")
    return found


def _tensor(record: Table, buffers: list[Table], batched: bool) -> Tensor:
    name, code = record.text(3), record.scalar(1, "b")
    dims, signature = _axes(record, 0), _axes(record, 7)
    if record.scalar(10, "I"):
        raise Malformed(f"tensor {name!r} is kept in another file")
    known = min(dims, default=0) >= 0 and (batched or min(signature, default=0) >= 0)
    scales = record.table(4)
    factors = np.empty(0, np.float32) if scales is None else scales.numbers(2, "f4")
    points = np.empty(0, np.int64) if scales is None else scales.numbers(3, "i8")
    buffer = record.scalar(2, "I")
    tensor = Tensor(
        name=name,
        dims=dims,
        signature=signature,
        shape=dims if known else None,
        kind=KINDS.get(code, Kind(name=f"type {code}", bits=0)),
        buffer=buffer,
        raw=None if record.scalar(5, "B") else _bytes(_at(buffers, buffer, "buffer")),
        quantized=factors.size > 0,
        scales=factors,
        scale_bytes=factors.nbytes + points.nbytes,
        zero_points=points,
        axis=0 if scales is None else scales.scalar(6, "i"),
        sparse=record.table(6) is not None,
    )
    _check_size(tensor)
    return tensor


def _bytes(buffer: Table) -> Array | None:
    """Bytes of a constant, inside the tables or (files over 2 GB) behind them; None where there are none."""
    inside = buffer.numbers(0, "u1")
    if inside.size:
        return inside
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset <= 1 or size == 0:
        return None
    buffer.source.take(offset, size)
    return np.frombuffer(buffer.data, dtype=np.uint8, count=size, offset=offset)


def _check_size(tensor: Tensor) -> None:
    if tensor.raw is None or tensor.kind.bits == 0 or tensor.sparse:
        return
    wanted = (prod(tensor.dims) * tensor.kind.bits + 7) // 8
    if tensor.raw.size != wanted:
        raise Malformed(f"tensor {tensor.name!r} needs {wanted} bytes and its buffer has {tensor.raw.size}")


def constant_values(tensor: Tensor) -> Array:
    """The numbers of a constant, in one row; for a type without numbers (strings) its bytes."""
    raw, kind = tensor.raw, tensor.kind
    assert raw is not None
    if kind.bits == 0:
        return raw
    if kind.dtype:
        whole = raw.size - raw.size % (kind.bits // 8)
        return raw[:whole].view(np.dtype(kind.dtype).newbyteorder("<"))
    parts = [(raw.astype(np.int16) >> shift) & (2**kind.bits - 1) for shift in range(0, 8, kind.bits)]
    values = np.stack(parts, axis=-1).reshape(-1)[: prod(tensor.dims)]
    half = 2 ** (kind.bits - 1)
    return values if kind.name.startswith("U") else (values ^ half) - half
