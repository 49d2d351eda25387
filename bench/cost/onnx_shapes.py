"""An .onnx file as a graph at batch 1: every shape that can be known, which values are constant, nothing executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from bench.cost.ledger import Operand, common_batch
from bench.cost.onnx_settle import SMALL, settle
from bench.cost.onnx_surrogate import STANDARD, surrogates
from bench.errors import InvalidInput, first_line
from bench.formats.onnx_file import bytes_on_disk, load_onnx
from bench.formats.onnx_functions import expand_functions
from bench.formats.onnx_walk import DRAWN, every_node, subgraphs
from bench.formats.qonnx import belongs
from bench.inputs.axes import BATCH_NAMES

DIVISORS = {"strides", "dilations", "kernel_shape", "group", "num_groups", "blocksize", "num_outputs", "q_num_heads"}
DIVISORS |= {"kv_num_heads"}
CONTROL = ("Loop", "If", "Scan")
INT, INTS = AttributeProto.INT, AttributeProto.INTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What the counting rules need of a file.

    `shapes` has only fully known ones, at batch `batch` (divide to get one sample's figures).
    `nodes` run; `constant` maps a value name to the node that computes it only from constants.
    `bodies`: first output of a control-flow node -> its bodies by the name of their attribute, shapes inferred.
    `scales`: names of the scales that DynamicQuantizeLinear finds, and of integer products before they are scaled.
    `declared`: the shapes that the file itself gives its outputs, 0 for a free axis.
    `counted` remembers what `onnx_constants.operand` found, because counting zeros reads all weights.
    """

    file: Path
    file_bytes: int
    nodes: tuple[NodeProto, ...]
    constant: Mapping[str, NodeProto]
    initializers: Mapping[str, TensorProto]
    sparse: Mapping[str, SparseTensorProto]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int
    bodies: Mapping[str, Mapping[str, GraphProto]] = field(default_factory=dict)
    scales: frozenset[str] = frozenset()
    declared: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    counted: dict[tuple[str, str, int], Operand | None] = field(default_factory=dict)


def read_graph(file: Path) -> Graph:
    """The graph of a file. Raises as `load_onnx`, and `InvalidInput` for an inconsistent graph."""
    stored = load_onnx(file)
    model = expand_functions(stored, file)
    graph = model.graph
    initializers = {item.name: item for item in graph.initializer}
    sparse = {item.values.name: item for item in graph.sparse_initializer}
    inferred = _infer(model, initializers, file)
    shapes, types = read_shapes(inferred, initializers)
    inputs = tuple(item.name for item in graph.input if item.name not in initializers and item.name not in sparse)
    outputs = tuple(item.name for item in graph.output)
    constant, nodes = split_constants(graph.node, {*initializers, *sparse}, shapes)
    return Graph(
        file=file,
        file_bytes=bytes_on_disk(stored, file),
        nodes=nodes,
        constant=constant,
        initializers=initializers,
        sparse=sparse,
        shapes=shapes,
        types=types,
        inputs=inputs,
        outputs=outputs,
        bodies=read_bodies(inferred),
        scales=find_scales(nodes),
        declared={item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim) for item in graph.output},
        batch=_baked_batch(nodes, shapes, inputs, outputs),
    )


def _baked_batch(
    nodes: Iterable[NodeProto], shapes: Mapping[str, tuple[int, ...]], inputs: Iterable[str], outputs: Iterable[str]
) -> int:
    """The batch that concrete shapes hold; 1 where the first axis is the time of a recurrent cell."""
    batch = common_batch(
        [shapes[name] for name in inputs if name in shapes], [shapes.get(name, ()) for name in outputs]
    )
    for node in nodes:
        if node.op_type in ("LSTM", "GRU", "RNN") and len(shape := shapes.get(node.input[0], ())) == 3:
            first = any(item.name == "layout" and item.i for item in node.attribute)
            batch = batch if shape[0 if first else 1] % batch == 0 else 1
    return batch


def _infer(model: ModelProto, initializers: Mapping[str, TensorProto], file: Path) -> GraphProto:
    """Shapes of all values.

    They come from a copy of the graph: without large constants, and with standard operators in place of known
    extension operators that have the same output shapes.
    """
    for node in every_node(model.graph):
        _check_divisors(node, file)
    copy = ModelProto(ir_version=max(model.ir_version, 4))
    copy.opset_import.extend(model.opset_import)
    imported = {entry.domain for entry in model.opset_import}
    own = {node.domain for node in every_node(model.graph) if belongs(node)}  # old QONNX files import nothing for them
    copy.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(own - imported))
    _at_batch_one(model.graph, initializers, copy.graph)
    try:
        onnx.checker.check_model(copy)
        return settle(copy, lambda one: onnx.shape_inference.infer_shapes(one, data_prop=True).graph)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        newer = ": export it with an older onnx, or install a newer one" if "ir_version" in str(error) else ""
        raise InvalidInput(f"{file} is not a valid ONNX graph: {first_line(error).rstrip('.')}{newer}") from error


def _check_divisors(node: NodeProto, file: Path) -> None:
    """Refuses zeros that onnx 1.21 divides by unchecked, which ends the whole process."""
    for attribute in node.attribute:
        if attribute.name in DIVISORS and min((attribute.i if attribute.type == INT else 1, *attribute.ints)) < 1:
            raise InvalidInput(f"{file}: {attribute.name} of {node.op_type} {node.name!r} must be 1 or more")


def _at_batch_one(graph: GraphProto, initializers: Mapping[str, TensorProto], copy: GraphProto) -> None:
    copy.name = graph.name or "graph"
    sparse = {item.values.name for item in graph.sparse_initializer}
    inputs = [item for item in graph.input if item.name not in initializers and item.name not in sparse]
    symbols, elsewhere = _find_batch_symbols(inputs)
    copy.input.extend(_pinned(item, symbols, first=item.name not in elsewhere) for item in inputs)
    for name, tensor in initializers.items():
        if _small(tensor):
            copy.initializer.append(tensor)
        else:
            copy.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    for item in graph.sparse_initializer:
        values = item.values
        copy.input.append(helper.make_tensor_value_info(values.name, values.data_type, list(item.dims)))
    foreign: set[str] = set()
    for index, node in enumerate(graph.node):
        stand_ins, needed = surrogates(node, index)
        copy.node.extend(stand_ins)
        copy.input.extend(needed)
        if any(item.domain not in STANDARD or item.op_type in CONTROL for item in stand_ins):
            foreign.update(node.output)
    for node in copy.node:
        _state_kernel(node, initializers)
    copy.value_info.extend(
        _pinned(item, symbols) for item in (*graph.value_info, *graph.output) if item.name in foreign
    )


def _find_batch_symbols(inputs: Iterable[ValueInfoProto]) -> tuple[set[str], set[str]]:
    """The symbols of the batch: those that are named as one, and those of first axes; and the inputs whose batch is
    named on another axis, as that of a recurrent cell: their first axis is another one."""
    symbols: set[str] = set()
    elsewhere: set[str] = set()
    for item in inputs:
        dims = [dim.dim_param for dim in item.type.tensor_type.shape.dim]
        named = {dim for dim in dims[1:] if BATCH_NAMES.fullmatch(dim)}
        if named and not BATCH_NAMES.fullmatch(dims[0]):
            elsewhere.add(item.name)
            symbols |= named
        else:
            symbols.update(dims[:1])
    return symbols - {""}, elsewhere


def _state_kernel(node: NodeProto, initializers: Mapping[str, TensorProto]) -> None:
    """States the kernel of a transposed convolution that leaves it out.

    onnx 1.21 then takes it from the weight without comparing ranks, and can abort the whole process. A stated
    kernel is compared.
    """
    if node.op_type != "ConvTranspose" or any(item.name == "kernel_shape" for item in node.attribute):
        return
    if len(node.input) > 1 and node.input[1] in initializers:
        node.attribute.append(
            helper.make_attribute("kernel_shape", list(initializers[node.input[1]].dims[2:]), attr_type=INTS)
        )


def _pinned(item: ValueInfoProto, symbols: set[str], *, first: bool = False) -> ValueInfoProto:
    """A copy in which the batch symbol, and a free first axis, are 1."""
    copy = ValueInfoProto()
    copy.CopyFrom(item)
    for position, dim in enumerate(copy.type.tensor_type.shape.dim):
        free = dim.dim_value <= 0
        if (free and dim.dim_param in symbols) or (first and free and position == 0):
            dim.dim_value = 1
    return copy


def _small(tensor: TensorProto) -> bool:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count <= SMALL and tensor.data_location != TensorProto.EXTERNAL


def read_bodies(graph: GraphProto) -> dict[str, dict[str, GraphProto]]:
    """First output of a control-flow node -> name of the attribute -> body."""
    return {
        node.output[0]: {item.name: item.g for item in node.attribute if item.HasField("g")}
        for node in graph.node
        if node.op_type in CONTROL and node.output
    }


def find_scales(nodes: Iterable[NodeProto]) -> frozenset[str]:
    """The scales of activations that get their range while the network runs, and integer products, which scales multiply."""
    found: set[str] = set()
    for node in nodes:
        if node.op_type == "DynamicQuantizeLinear":
            found.update(node.output[1:2])
        if node.op_type in ("MatMulInteger", "ConvInteger") or (node.op_type == "Cast" and node.input[0] in found):
            found.update(node.output)
    return frozenset(found)


def read_shapes(
    graph: GraphProto, initializers: Mapping[str, TensorProto]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shape, where every size is known, and element type of each value."""
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, int] = {}
    for item in (*graph.input, *graph.value_info, *graph.output):
        if not item.type.HasField("tensor_type"):
            continue
        tensor = item.type.tensor_type
        types[item.name] = tensor.elem_type
        if tensor.HasField("shape") and all(
            dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim
        ):
            shapes[item.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    for name, constant in initializers.items():
        shapes[name] = tuple(constant.dims)
        types[name] = constant.data_type
    return shapes, types


def split_constants(
    nodes: Iterable[NodeProto], stored: set[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, NodeProto], tuple[NodeProto, ...]]:
    """Nodes whose result is known before any input is (constants of constants, the shape of a known shape), and the rest."""
    constant: dict[str, NodeProto] = {}
    running: list[NodeProto] = []
    for node in nodes:
        needed = node.input[:1] if node.op_type in ("CastLike", "DequantizeLinear") else node.input
        fixed = all(name in stored or name in constant or not name for name in needed)
        if node.op_type in ("Shape", "Size") and node.input and node.input[0] in shapes:
            fixed = True
        if fixed and node.op_type not in DRAWN and not any(True for _ in subgraphs(node)):
            constant.update(dict.fromkeys(filter(None, node.output), node))
        else:
            running.append(node)
    return constant, tuple(running)
