"""Weights that an ONNX file keeps in files beside it: where they are, checked before any is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bench.errors import InvalidInput
from bench.formats.onnx_walk import every_tensor

SHARED = 64
"""How often one byte beside a model may be read as weights of different tensors."""
PIECE = 2**24
"""Bytes of external data read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bytes of one tensor in a file beside the model."""

    file: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.length)


def external_tensors(proto: ModelProto) -> list[TensorProto]:
    """The tensors whose values are kept beside the model."""
    return [tensor for tensor in every_tensor(proto) if tensor.data_location == TensorProto.EXTERNAL]


def external_span(tensor: TensorProto, model: Path) -> Span:
    """Where the values of an external tensor are.

    Raises `InvalidInput` when its data is missing, too short, or lies outside the model's own folder.
    """
    entries = {item.key: item.value for item in tensor.external_data}
    location = entries.get("location", "")
    culprit = f"{model}: external data of {tensor.name!r}"
    file = _beside(location, model, culprit)
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError:
        raise InvalidInput(f"{culprit} has an offset or length that is not a number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidInput(f"{culprit} wants bytes {offset} to {offset + length} of {location!r}, which has {size}")
    return Span(file=file, offset=offset, length=length)


def check_spans(spans: Iterable[Span], model: Path) -> None:
    """Raises `InvalidInput` when tensors together read far more bytes than the files beside the model have."""
    found = list(spans)
    there = sum(file.stat().st_size for file in {span.file for span in found})
    read = sum(span.length for span in found)
    if read > SHARED * there:
        raise InvalidInput(
            f"{model}: its tensors read {read} bytes of external data from files of {there}; "
            f"each byte may be read {SHARED} times"
        )


def tensor_values(tensor: TensorProto, model: Path) -> NDArray[np.generic]:
    """The values of a tensor, wherever they are kept.

    Raises `InvalidInput` when they are missing or do not fit the tensor's shape and type.
    """
    try:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = _taken_in(tensor, external_span(tensor, model))
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError) as error:
        raise InvalidInput(
            f"{model}: constant {tensor.name!r} of shape {list(tensor.dims)} cannot be read: {error}"
        ) from error


def count_nonzero(tensor: TensorProto, model: Path) -> int:
    """How many values of a tensor are not zero. External data is read in pieces and never all in memory.

    Raises as `tensor_values`.
    """
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if tensor.data_location != TensorProto.EXTERNAL or kind.kind not in "fiub":
        return int(np.count_nonzero(tensor_values(tensor, model)))
    span, wanted = external_span(tensor, model), prod(tensor.dims) * kind.itemsize
    if span.length != wanted:
        raise InvalidInput(f"{model}: constant {tensor.name!r} needs {wanted} bytes and its data has {span.length}")
    found = 0
    with span.file.open("rb") as stream:
        stream.seek(span.offset)
        for start in range(0, wanted, PIECE):
            piece = stream.read(min(PIECE, wanted - start))
            found += int(np.count_nonzero(np.frombuffer(piece, kind.newbyteorder("<"))))
    return found


def _taken_in(tensor: TensorProto, span: Span) -> TensorProto:
    copy = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    copy.raw_data = span.read()
    return copy


def _beside(location: str, model: Path, culprit: str) -> Path:
    folder = model.resolve().parent
    try:
        file = (folder / location).resolve()
        inside = bool(location) and not Path(location).is_absolute() and file.is_relative_to(folder)
        there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a NUL, a name too long, a circle of links
        raise InvalidInput(f"{culprit} is at {location!r}, which is not a path: {error}") from None
    if not inside:
        raise InvalidInput(f"{culprit} is at {location!r}, outside the model's folder; keep both in one folder")
    if not there:
        raise InvalidInput(f"{culprit} is at {location!r}, and there is no such file beside the model")
    return file
