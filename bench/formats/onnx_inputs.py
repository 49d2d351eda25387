"""The inputs and outputs of an ONNX graph: what must be fed, with which sizes and numbers, and fixing free sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bench.errors import InvalidInput, Unsupported
from bench.formats.declared import Declared, Dim
from bench.formats.index_bounds import Array, Found, Node, Walk, find_bounds
from bench.formats.onnx_walk import every_node
from bench.types import TensorSpec

SMALL = 4096
"""Elements up to which a constant's values are read."""
NO_SYMBOL = {"", "?", "-1", "None"}
"""What exporters write for a free size without a name: two axes with it need not be of one size."""
AXES = ("axis", "layout", "time_axis")
"""Attributes that name the axis of a lookup, or that of time: with layout 1 it is axis 1."""
SAME_SHAPE = {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity"}
"""Operators a stored table may pass through before it is looked up in."""


def declared_inputs(model: ModelProto, file: Path) -> tuple[Declared, ...]:
    """Inputs that must be fed: all but the initializers.

    Raises `InvalidInput` for an input that is not a plain tensor, or when there is no input.
    """
    graph = model.graph
    fed = _fed(graph)
    if not fed:
        raise InvalidInput(f"{file}: the graph takes no input, so there is nothing to feed it")
    bounds = find_index_bounds(model)
    return tuple(_declare_input(value, bounds[value.name], file) for value in fed)


def declared_outputs(graph: GraphProto) -> tuple[Declared, ...]:
    """Outputs that are tensors of declared shape."""
    tensors = [value for value in graph.output if value.type.tensor_type.HasField("shape")]
    return tuple(
        Declared(name=value.name, dims=_dims(value), dtype=_name_type(value.type.tensor_type.elem_type))
        for value in tensors
    )


def _name_type(element: int) -> str:
    """Numpy's name of an element type; "" for one that numpy lacks."""
    try:
        return str(helper.tensor_dtype_to_np_dtype(element))
    except (KeyError, ValueError, TypeError):
        return ""


def fix_sizes(model: ModelProto, specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> bool:
    """Fixes free sizes in place, `specs` those of the inputs and `sizes` those of symbols; whether there were any."""
    wanted, changed = {spec.name: spec for spec in specs}, False
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        spec = wanted.get(value.name)
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            size = sizes.get(dim.dim_param, spec.shape[place] if spec else -1)
            if dim.dim_value < 1 <= size:
                dim.dim_value, changed = size, True
    return changed


def find_index_bounds(model: ModelProto) -> Mapping[str, Found]:
    """Input -> the whole numbers that its uses allow, for every input that must be fed."""
    graph = model.graph
    nodes = list(every_node(graph))
    tensors = {item.name: item for item in graph.initializer} | _constant_nodes(nodes)
    constants = {name: array for name, tensor in tensors.items() if (array := _small(tensor)) is not None}
    fed = _fed(graph)
    return find_bounds(
        Walk(
            nodes=[_node(node) for node in nodes],
            inputs=[value.name for value in fed],
            shapes=_shapes(graph, tensors, nodes),
            constants=constants,
            stored=frozenset(tensors),
            scalars=frozenset(value.name for value in fed if all(dim == 1 for dim in _dims(value))),
        )
    )


def _constant_nodes(nodes: Sequence[NodeProto]) -> dict[str, TensorProto]:
    return {
        node.output[0]: item.t
        for node in nodes
        if node.op_type == "Constant"
        for item in node.attribute
        if item.name == "value"
    }


def _small(tensor: TensorProto) -> Array | None:
    count = 1
    for size in tensor.dims:
        count *= size
    outside = tensor.data_location == TensorProto.EXTERNAL
    if outside or count > SMALL or tensor.data_type == TensorProto.STRING:
        return None
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "fiub" and array.size else None


def _shapes(
    graph: GraphProto, tensors: Mapping[str, TensorProto], nodes: Sequence[NodeProto]
) -> dict[str, tuple[int, ...]]:
    values = (*graph.value_info, *graph.output, *graph.input)
    shapes = {
        value.name: tuple(dim if isinstance(dim, int) else -1 for dim in _dims(value))
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    shapes |= {name: tuple(tensor.dims) for name, tensor in tensors.items()}
    for node in nodes:
        if node.op_type in SAME_SHAPE and node.input and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
        elif node.op_type == "Transpose" and node.input and node.input[0] in shapes:
            shape = shapes[node.input[0]]
            order = next((item.ints for item in node.attribute if item.name == "perm"), range(len(shape))[::-1])
            if sorted(order) == list(range(len(shape))):
                shapes.setdefault(node.output[0], tuple(shape[place] for place in order))
    return shapes


def _node(node: NodeProto) -> Node:
    numbers = {item.name: item.i for item in node.attribute if item.name in {*AXES, "batch_dims"}}
    return Node(
        kind=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        axis=next((int(numbers[name]) for name in AXES if name in numbers), 0),
        batch_dims=int(numbers.get("batch_dims", 0)),
    )


def _fed(graph: GraphProto) -> list[ValueInfoProto]:
    constants = {item.name for item in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _dims(value: ValueInfoProto) -> tuple[Dim, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(
        dim.dim_value if dim.dim_value > 0 else None if dim.dim_param in NO_SYMBOL else dim.dim_param for dim in dims
    )


def _declare_input(value: ValueInfoProto, found: Found, file: Path) -> Declared:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "unknown type"
        raise Unsupported(
            f"{file}: input {value.name!r} is a {kind.removesuffix('_type')}, not a tensor: it cannot be fed; export "
            "the network with tensors as inputs"
        )
    if not tensor.HasField("shape"):
        raise InvalidInput(f"{file}: input {value.name!r} is not a tensor of known rank")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except (KeyError, ValueError, TypeError):
        raise InvalidInput(f"{file}: input {value.name!r} has the unknown element type {tensor.elem_type}") from None
    whole = dtype.kind in "iu"
    return Declared(
        name=value.name,
        dims=_dims(value),
        dtype=str(dtype),
        integers=found.integers if whole else None,
        is_mask=found.is_mask and dtype.kind in "iub",
    )
