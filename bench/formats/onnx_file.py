"""An ONNX file a user brought: read as untrusted input, made self-contained, its inputs told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from bench.errors import InvalidInput, Unsupported
from bench.types import TensorSpec

MAX_BYTES = 2**31 - 1
"""What one protobuf message can hold."""


def read_onnx(file: Path) -> tuple[onnx.ModelProto, int]:
    """The model with its external data taken in, and how many tensors that were.

    Raises `InvalidInput` for a file that is missing, truncated, no ONNX model, or whose external
    data is missing, too short, or lies outside the model's own folder (such data is never opened);
    `Unsupported` when the whole would not fit into one file.
    """
    if not file.is_file():
        raise InvalidInput(f"{file}: no such file; give the path of an .onnx model")
    if file.stat().st_size > MAX_BYTES:
        raise Unsupported(f"{file}: over 2 GB, more than one ONNX file can hold")
    try:
        proto = onnx.load_model(file, load_external_data=False)
    except DecodeError as error:
        raise InvalidInput(f"{file}: truncated or no ONNX model ({error})") from None
    if not proto.graph.node or not proto.graph.output or not proto.opset_import:
        raise InvalidInput(f"{file}: truncated or no ONNX model (no nodes, no outputs or no operator set)")
    external = [tensor for tensor in _tensors(proto) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    total = file.stat().st_size
    spans = [_external_span(tensor, file) for tensor in external]
    if total + sum(length for _, _, length in spans) > MAX_BYTES:
        raise Unsupported(f"{file}: with its external data over 2 GB, more than one ONNX file can hold")
    for tensor, (data, offset, length) in zip(external, spans, strict=True):
        with data.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return proto, len(external)


def input_specs(graph: onnx.GraphProto, file: Path) -> tuple[TensorSpec, ...]:
    """Inputs that must be fed (initializers are not). Raises `InvalidInput` for one that is no plain tensor, or none."""
    specs = tuple(_spec(value, file) for value in _fed(graph))
    if not specs:
        raise InvalidInput(f"{file}: the graph takes no input, so there is nothing to feed it")
    return specs


def fix_shape(proto: onnx.ModelProto, shape: tuple[int, ...], file: Path) -> bool:
    """Fixes in place what the one input leaves free behind its batch; whether there was any.

    Raises `InvalidInput` where there are several inputs, or the file says another shape than `shape`.
    """
    fed = _fed(proto.graph)
    if len(fed) > 1:
        names = ", ".join(value.name for value in fed)
        raise InvalidInput(f"{file}: an input shape is for one input, there are {names}; fix their axes in the file")
    dims = fed[0].type.tensor_type.shape.dim[1:]
    found = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]
    pairs = list(zip(found, shape, strict=False))
    if len(found) != len(shape) or any(isinstance(there, int) and there != size for there, size in pairs):
        sizes = ", ".join(map(str, found))
        raise InvalidInput(f"{file}: input {fed[0].name!r} has shape ({sizes}) without the batch, not {shape}")
    symbols = {there: size for there, size in pairs if isinstance(there, str) and there != "?"}
    for dim, size in zip(dims, shape, strict=True):
        dim.dim_value = size
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    return any(isinstance(there, str) for there in found)


def _fed(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    constants = {item.name for item in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _spec(value: onnx.ValueInfoProto, file: Path) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InvalidInput(f"{file}: input {value.name!r} is no tensor of known rank")
    shape = tuple(dim.dim_value if dim.dim_value > 0 else -1 for dim in tensor.shape.dim)
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except (KeyError, ValueError, TypeError):
        raise InvalidInput(f"{file}: input {value.name!r} has the unknown element type {tensor.elem_type}") from None
    return TensorSpec(name=value.name, shape=shape, dtype=str(dtype))


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, in subgraphs and functions too."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            graphs.extend((attribute.g, *attribute.graphs))
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _external_span(tensor: onnx.TensorProto, file: Path) -> tuple[Path, int, int]:
    """(data file, offset, bytes) of an external tensor; see `read_onnx` for what it refuses."""
    entries = {item.key: item.value for item in tensor.external_data}
    location = entries.get("location", "")
    culprit = f"{file}: external data of {tensor.name!r}"
    folder = file.resolve().parent
    data = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not data.is_relative_to(folder):
        raise InvalidInput(f"{culprit} is at {location!r}, outside the model's folder; keep both in one folder")
    if not data.is_file():
        raise InvalidInput(f"{culprit} is at {location!r}, and there is no such file beside the model")
    size = data.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError:
        raise InvalidInput(f"{culprit} has an offset or length that is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidInput(f"{culprit} wants bytes {offset} to {offset + length} of {location!r}, which has {size}")
    return data, offset, length
