"""ONNX graphs before a runtime sees them: reading, naming, fixing the batch, finding layers by weight."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, shape_inference, version_converter

from backends.onnx_tools.operators import MULTIPLYING, weight_inputs
from bench.device.inputs import FED_SIZES
from bench.errors import InvalidInput, Unsupported, unknown
from bench.types import TensorSpec

MAX_BYTES = 2**31 - 1
"""What one ONNX file can hold."""
TOO_LARGE = "its weights lie in files beside it, over 2 GB together: it can be inspected, and measured as it is by ort"
NO_ADAPTER = re.compile(r"No Adapter.* (?:For|for) (?P<operator>\w+)")


def read(path: Path, *, beside: bool = False) -> ModelProto:
    """The model with its external data in memory, or with `beside` left where it is if it is over 2 GB.

    Raises `InvalidInput` for a file that is not ONNX, `Unsupported` for one over 2 GB without `beside`.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        if sum(place.stat().st_size for place in data_files(model, path)) <= MAX_BYTES:
            model = onnx.load(str(path))
        elif not beside:
            raise Unsupported(f"{path.name}: {TOO_LARGE}")
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read as ONNX: {error}") from error
    if not model.graph.node:
        raise InvalidInput(f"{path}: no graph in it: truncated, or no ONNX file")
    return model


def name_nodes(model: ModelProto) -> None:
    """Gives nodes without a name, or with one already taken, a name of their own, in place; those of bodies too."""
    names = [node.name for graph in walk_graphs(model.graph) for node in graph.node]
    taken = set(names)
    used: set[str] = set()
    nodes = (node for graph in walk_graphs(model.graph) for node in graph.node)
    for index, node in enumerate(nodes):
        if not node.name or node.name in used:
            node.name = find_free_name(f"{node.op_type}_{index}", taken)
            taken.add(node.name)
        used.add(node.name)


def find_free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, with underscores behind it until it is not in `taken`."""
    while wanted in taken:
        wanted += "_"
    return wanted


def walk_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph, and the bodies of its Loops, Ifs and Scans, however deep."""
    yield graph
    for node in graph.node:
        for item in node.attribute:
            for body in (item.g, *item.graphs):
                if body.node:
                    yield from walk_graphs(body)


def hide_weights(model: ModelProto) -> int:
    """Takes initializers off the list of inputs, in place, and says how many there were.

    Files of IR version 3 list them; ONNX Runtime then folds and fuses nothing, since a caller might feed another. Where
    some do not, onnx finds no types for them: they become version 4.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in stored]
    hidden = len(model.graph.input) - len(real)
    del model.graph.input[:]
    model.graph.input.extend(real)
    model.ir_version = max(model.ir_version, 4) if stored else model.ir_version
    return hidden


def fix_batch(model: ModelProto, batch: int, path: Path, inputs: Sequence[TensorSpec] = ()) -> ModelProto:
    """The same network with the batch axis of its inputs fixed to `batch`.

    `inputs`: what is known of them; an input that is not there has its batch first. Every free axis is the batch, but
    where `inputs` knows a size that the file leaves free: sizes are then fed, and only stand in the metadata.
    Raises `Unsupported` when the file is fixed to another batch or has other free dimensions (named).
    """
    fixed = ModelProto()
    fixed.CopyFrom(model)
    known = {spec.name: spec for spec in inputs}
    kept = [item for item in fixed.metadata_props if item.key != FED_SIZES]
    del fixed.metadata_props[:]
    fixed.metadata_props.extend(kept)
    if any(_is_fed(value, known[value.name]) for value in fixed.graph.input if value.name in known):
        fed = {spec.name: spec.at(batch) for spec in inputs}
        fixed.metadata_props.add(key=FED_SIZES, value=json.dumps(fed, sort_keys=True))
        return fixed
    symbols: set[str] = set()
    for value in fixed.graph.input:
        symbols |= _fix_input(value, batch, path, known[value.name].axis if value.name in known else 0)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = batch
    del fixed.graph.value_info[:]
    inferred = infer(fixed)
    return fixed if inferred is None else inferred


def _is_fed(value: ValueInfoProto, spec: TensorSpec) -> bool:
    """Whether a size is known that the file leaves free, besides the batch."""
    sizes = zip(value.type.tensor_type.shape.dim, spec.shape, strict=False)
    return any(place != spec.axis and dim.dim_value < 1 <= size for place, (dim, size) in enumerate(sizes))


def _fix_input(value: ValueInfoProto, batch: int, path: Path, axis: int | None) -> set[str]:
    """Fixes one input in place, `axis` its batch axis; the symbols its batch went by."""
    dims = value.type.tensor_type.shape.dim
    others = [dim.dim_param or f"axis {place}" for place, dim in enumerate(dims) if place != axis and dim.dim_value < 1]
    if others:
        raise Unsupported(
            f"{path.name}: input {value.name!r} has free dimensions besides the batch: {', '.join(others)}; "
            f"give its sizes: --input {value.name}=N,SIZE,..."
        )
    if axis is None or not dims:
        return set()
    if dims[axis].dim_value > 0:
        if dims[axis].dim_value != batch:
            raise Unsupported(
                f"{path.name}: the batch of input {value.name!r} is fixed to {dims[axis].dim_value}, batch {batch} "
                f"needs a free axis: give --batch {dims[axis].dim_value}"
            )
        return set()
    symbol = {dims[axis].dim_param} - {""}
    dims[axis].dim_value = batch
    return symbol


def read_opset(model: ModelProto, otherwise: int = 0) -> int:
    """Opset of the standard operators; `otherwise` for a file that imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), otherwise)


def at_least_opset(model: ModelProto, wanted: int) -> ModelProto:
    """The model in opset `wanted` or newer. Raises `Unsupported` naming the operator that has no known conversion."""
    found = read_opset(model, wanted)
    if found >= wanted:
        return model
    try:
        return version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError, LookupError) as error:
        said = NO_ADAPTER.search(str(error))
        why = f"onnx cannot convert its operator {said['operator']}" if said else f"onnx cannot convert it: {error}"
        raise Unsupported(
            f"the file is of opset {found}, this step needs {wanted}, and {why}; export the network with opset {wanted}"
        ) from error


def infer(model: ModelProto) -> ModelProto | None:
    """The model with inferred shapes; None where inference fails (an operator of unknown types)."""
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, ValueError):
        return None


def is_free(model: ModelProto) -> bool:
    """Whether an input has a free axis."""
    return any(dim.dim_value < 1 for value in model.graph.input for dim in value.type.tensor_type.shape.dim)


def data_files(model: ModelProto, path: Path) -> list[Path]:
    """The files beside a model that hold weights of its main graph."""
    stored = (item for one in model.graph.initializer for item in one.external_data if item.key == "location")
    return [path.parent / location for location in dict.fromkeys(item.value for item in stored)]


def has_external(model: ModelProto) -> bool:
    """Whether the main graph keeps weights in files beside it."""
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer)


def layers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Module path (the weight's name without `.weight`) -> the nodes that multiply by it, those of bodies too.

    Only weights of float32 that `graph` itself stores. A recurrent operator has two: for its input and its state.
    """
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    found: dict[str, list[NodeProto]] = {}
    for inner in walk_graphs(graph):
        for node in inner.node:
            for index in weight_inputs(node.op_type):
                if len(node.input) > index and node.input[index] in stored:
                    found.setdefault(node.input[index].removesuffix(".weight"), []).append(node)
    return found


def layer_nodes(graph: GraphProto, names: Iterable[str]) -> list[NodeProto]:
    """The nodes of layers named by module path (`fc1`) or node name (`/fc1/MatMul`).

    A module path is a weight's name without `.weight`, or what a node's name says (`fc1` of `/fc1/MatMul`).
    Raises `InvalidInput` naming the nearest for a name that is neither.
    """
    known: dict[str, list[NodeProto]] = {}
    by_weight: dict[str, list[NodeProto]] = {}
    for inner in walk_graphs(graph):
        for node in inner.node:
            if node.op_type in MULTIPLYING:
                known.setdefault(_module_path(node.name), []).append(node)
        by_weight.update(layers(inner))
    known |= by_weight
    known |= {node.name: [node] for node in walk_nodes(graph) if node.op_type in MULTIPLYING}
    found: list[NodeProto] = []
    for name in names:
        if name not in known or not name:
            raise unknown("layer in keep_float", name, sorted(filter(None, known)))
        found.extend(known[name])
    return found


def walk_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node of the graph and of its bodies."""
    for inner in walk_graphs(graph):
        yield from inner.node


def _module_path(name: str) -> str:
    """`encoder.fc1` of `/encoder/fc1/MatMul`, as torch's older exporter names nodes; "" for other names."""
    return name.strip("/").rpartition("/")[0].replace("/", ".") if name.startswith("/") else ""


def leaving(graph: GraphProto, nodes: Iterable[NodeProto]) -> list[str]:
    """Tensors that are the output of a layer: of its nodes, and of a Relu or Clip that is an output's only reader.

    A MatMul's own output is not the layer's where a bias is added to it.
    """
    stored = {tensor.name for tensor in graph.initializer}
    given = {value.name for value in graph.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def only_reader(name: str) -> NodeProto | None:
        return readers[name][0] if name not in given and len(readers.get(name, ())) == 1 else None

    found: list[str] = []
    for node in nodes:
        output, after = node.output[0], only_reader(node.output[0])
        if node.op_type == "MatMul" and after is not None and after.op_type == "Add" and stored & set(after.input):
            output, after = after.output[0], only_reader(after.output[0])
        found.append(output)
        if after is not None and after.op_type in {"Relu", "Clip"}:
            found.append(after.output[0])
    return found


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Tensor -> the node that makes it."""
    return {output: node for node in graph.node for output in node.output if output}


def sort_nodes(graph: GraphProto) -> None:
    """Puts each node after those it reads from, in place, else in the order they had.

    The specification asks for it; the float16 conversion appends its casts at the end.
    """
    nodes = list(graph.node)
    maker = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    waits = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, needed in enumerate(waits):
        for other in needed:
            readers.setdefault(other, []).append(index)
    ready = [index for index, needed in enumerate(waits) if not needed]
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for index in readers.get(order[-1], ()):
            waits[index].discard(order[-1])
            if not waits[index]:
                heappush(ready, index)
    if len(order) < len(nodes):
        raise InvalidInput("the graph has a cycle")
    copies = [NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(copies)


def _reads(node: NodeProto) -> set[str]:
    """Tensors a node reads, including those its subgraphs capture."""
    inner = (child for item in node.attribute for graph in (item.g, *item.graphs) for child in graph.node)
    return set(node.input).union(*map(_reads, inner))
