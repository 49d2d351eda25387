"""The inputs of an ONNX graph: what must be fed, and fixing the axes that a file leaves free."""

from __future__ import annotations

from pathlib import Path

from onnx import GraphProto, ModelProto, ValueInfoProto, helper

from bench.errors import InvalidInput
from bench.types import TensorSpec


def input_specs(graph: GraphProto, file: Path) -> tuple[TensorSpec, ...]:
    """Inputs that must be fed: all but the initializers.

    Raises `InvalidInput` for an input that is not a plain tensor, or when there is no input.
    """
    specs = tuple(_spec(value, file) for value in _fed(graph))
    if not specs:
        raise InvalidInput(f"{file}: the graph takes no input, so there is nothing to feed it")
    return specs


def fix_shape(model: ModelProto, shape: tuple[int, ...], file: Path) -> bool:
    """Fixes the free axes of the one input to `shape`, in place, all but the batch; whether there were any.

    Raises `InvalidInput` when there are several inputs, or the file gives another shape than `shape`.
    """
    fed = _fed(model.graph)
    if len(fed) > 1:
        names = ", ".join(value.name for value in fed)
        raise InvalidInput(f"{file}: an input shape is for one input, there are {names}; fix their axes in the file")
    dims = fed[0].type.tensor_type.shape.dim[1:]
    found = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]
    pairs = list(zip(found, shape, strict=False))
    if len(found) != len(shape) or any(isinstance(there, int) and there != size for there, size in pairs):
        sizes = ", ".join(map(str, found))
        raise InvalidInput(f"{file}: input {fed[0].name!r} has shape ({sizes}) without the batch, not {shape}")
    for dim, size in zip(dims, shape, strict=True):
        dim.dim_value = size
    _fix_symbols(model, {there: size for there, size in pairs if isinstance(there, str) and there != "?"})
    return any(isinstance(there, str) for there in found)


def _fix_symbols(model: ModelProto, symbols: dict[str, int]) -> None:
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def _fed(graph: GraphProto) -> list[ValueInfoProto]:
    constants = {item.name for item in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _spec(value: ValueInfoProto, file: Path) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InvalidInput(f"{file}: input {value.name!r} is not a tensor of known rank")
    shape = tuple(dim.dim_value if dim.dim_value > 0 else -1 for dim in tensor.shape.dim)
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except (KeyError, ValueError, TypeError):
        raise InvalidInput(f"{file}: input {value.name!r} has the unknown element type {tensor.elem_type}") from None
    return TensorSpec(name=value.name, shape=shape, dtype=str(dtype))
