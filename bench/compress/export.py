"""Writes a torch network as `.onnx` (float32, free batch, BatchNorm folded) and as `.pt2`, both from one graph."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, permutations
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import ir, optimizer
from torch import nn

from bench.errors import Unsupported, first_cause, first_line
from bench.models.calls import forward_parameters
from bench.models.muted import muted
from bench.models.tensors import Inputs

WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Operators that have weights -> which input the weight is. A MatMul's may be either input."""

OUTPUT_NAMES = "output_names"
"""Name of the extra file of a .pt2: a JSON list with a name for each output."""
UNNAMED = re.compile(r"s\d+")
"""What torch calls a free size."""

POOLS = {getattr(torch.ops.aten, f"adaptive_avg_pool{axes}d").default for axes in (1, 2, 3)}
RESHAPES = {torch.ops.aten.view.default, torch.ops.aten.reshape.default}
CONTIGUOUS: dict[str, Any] = {"memory_format": torch.contiguous_format}
NO_VIEW = "Cannot view a tensor"
"""How torch says that a tensor cannot be given another shape without a copy."""
RAISED = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ArithmeticError)
"""What tracing can raise: torch.export runs the network's own code and lets its errors through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Names that a file gives its inputs and its outputs."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("output",)
    axes: tuple[int | None, ...] = (0,)
    """Where the samples of each input lie; None for an input without a batch."""


PLAIN_ENDS = Ends()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The content of both files, and the names of the layers with weights."""

    onnx: bytes
    pt2: bytes
    layers: tuple[str, ...]
    fixed_batch: str
    """Why the batch is fixed at 1; "" when it is free."""


def export(module: nn.Module, example: Inputs, ends: Ends = PLAIN_ENDS) -> Exported:
    """The network in both formats. Raises `Unsupported` with the reason when it cannot be traced.

    `example` is a batch of 2. `ends` names the inputs and the outputs. The batch axis is named `batch`. A
    network whose batch cannot be free is exported at batch 1. The same network gives the same ONNX bytes;
    the bytes of a .pt2 differ from one export to the next.
    """
    module.eval()
    fixed_batch, batch = "", torch.export.Dim("batch", min=1)
    with _quiet():
        try:
            free = tuple({} if axis is None else {axis: batch} for axis in ends.axes)
            shapes = free if forward_parameters(module) else (free,)
            program = torch.export.export(module, example, dynamic_shapes=shapes)
        except RAISED as error:
            fixed_batch = f"a free batch cannot be exported: {first_line(error)}"
            first = (
                one if axis is None else one.narrow(axis, 0, 1) for one, axis in zip(example, ends.axes, strict=True)
            )
            program = _export_fixed(module, tuple(first))
        exported = _to_onnx(program, ends)
    frozen = [value for value in module.parameters() if not value.requires_grad]
    if any(bool((torch.signbit(value) & (value == 0)).all()) for value in frozen):
        _drop_idle(exported.model)
    proto = exported.model_proto
    _strip(program)
    pt2 = io.BytesIO()
    torch.export.save(program, pt2, extra_files=_name_outputs(program, ends))
    layers = _name_layers(proto.graph)
    _tidy(proto, free_batch=not fixed_batch)
    content = proto.SerializeToString(deterministic=True)
    return Exported(onnx=content, pt2=pt2.getvalue(), layers=layers, fixed_batch=fixed_batch)


def write_onnx(program: torch.export.ExportedProgram, ends: Ends) -> bytes:
    """A program as an ONNX file with names of layers as `export` gives them. Raises `Unsupported` with the reason.

    torch numbers free sizes (`s31`): that of the first input's first axis becomes `batch`.
    """
    with _quiet():
        proto = _to_onnx(program, ends).model_proto
    _name_layers(proto.graph)
    first = proto.graph.input[0].type.tensor_type.shape.dim
    _tidy(proto, free_batch=bool(first and UNNAMED.fullmatch(first[0].dim_param)))
    return bytes(proto.SerializeToString(deterministic=True))


def _name_outputs(program: torch.export.ExportedProgram, ends: Ends) -> dict[str, str]:
    """The entry of a .pt2 that names its outputs, which a session of PyTorch reads; none where the numbers differ."""
    fit = len(ends.outputs) == len(program.graph_signature.user_outputs)
    return {OUTPUT_NAMES: json.dumps(ends.outputs)} if fit else {}


def layer_weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Layer name -> its weight initializer, for every layer that has one, in graph order.

    An initializer `conv1.weight` belongs to layer `conv1`. One without that ending is itself the layer's name.
    """
    initializers = {item.name: item for item in graph.initializer}
    found = {}
    for node in graph.node:
        name = _weight_name(node, initializers)
        if name is not None:
            found[name.removesuffix(".weight")] = initializers[name]
    return found


def _export_fixed(module: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(module, example)
    except RAISED as error:
        raise Unsupported(f"the network cannot be exported by torch.export: {first_line(error)}") from error


def _to_onnx(program: torch.export.ExportedProgram, ends: Ends) -> torch.onnx.ONNXProgram:
    names: dict[str, Any] = {"input_names": list(ends.inputs), "output_names": list(ends.outputs)}
    convert = partial(torch.onnx.export, program, (), dynamo=True, verbose=False, **names)
    try:
        with _collecting_once(), _pooling_plainly(program.graph):
            try:
                exported = convert()
            except torch.onnx.OnnxExporterError as error:
                if NO_VIEW not in first_cause(error):
                    raise
                with _copying(program.graph_module):
                    exported = convert()
    except torch.onnx.OnnxExporterError as error:
        raise Unsupported(f"the network cannot be exported to ONNX: {first_cause(error)}") from error
    assert exported is not None
    _keep_ends(exported.model)
    return exported


@contextmanager
def _copying(module: torch.fx.GraphModule) -> Iterator[None]:
    """Copies what is given another shape. torch drops a copy that it thinks needless before it takes an attention with a mask
    apart into steps, whose result lies otherwise in memory. ONNX has no such copies."""
    graph, copies = module.graph, {}
    for node in [node for node in graph.nodes if node.target in RESHAPES]:
        with graph.inserting_before(node):
            copy = graph.call_function(torch.ops.aten.clone.default, (node.args[0],), CONTIGUOUS)
        copy.meta = dict(node.args[0].meta)
        node.args = (copy, *node.args[1:])
        copies[node] = copy
    try:
        yield
    finally:
        for node, copy in copies.items():
            node.args = (copy.args[0], *node.args[1:])
            graph.erase_node(copy)


@contextmanager
def _pooling_plainly(graph: torch.fx.Graph) -> Iterator[None]:
    """Means of whole images are means: what torch makes of them where channels lie last gathers one value after another."""
    pools = [
        (node, node.target, node.args) for node in graph.nodes if node.target in POOLS and set(node.args[1]) == {1}
    ]
    for node, _, args in pools:
        node.target, node.args = torch.ops.aten.mean.dim, (args[0], [-1, -2, -3][: len(args[1])], True)
    try:
        yield
    finally:
        for node, target, args in pools:
            node.target, node.args = target, args


def _keep_ends(model: ir.Model) -> None:
    """Renames, in place, values inside the graph that have the name of an input or an output: `relu`, `linear`, `scale`."""
    ends = {*model.graph.inputs, *model.graph.outputs}
    inner = [*model.graph.initializers.values(), *(value for node in model.graph.all_nodes() for value in node.outputs)]
    taken = {str(value.name) for value in [*ends, *inner]}
    reserved = {value.name for value in ends}
    for value in inner:
        if value not in ends and value.name in reserved:
            value.name = next(name for number in count(1) if (name := f"{value.name}_{number}") not in taken)
            taken.add(value.name)


def _drop_idle(model: ir.Model) -> None:
    """Takes out, in place, additions of -0.0 and a Relu behind a Relu: a removed branch leaves them.

    Any other zero is a weight that is not trained yet.
    """
    for node in [*model.graph]:
        source = _unchanged(node)
        if source is not None and not node.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
    optimizer.remove_unused_nodes(model)


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The input that the node gives as it came in; None where it computes something."""
    inputs, shape = [one for one in node.inputs if one is not None], node.outputs[0].shape
    if node.op_type == "Relu" and _made_by("Relu", inputs[0]):
        return inputs[0]
    if node.op_type == "Add" and shape is not None and all(isinstance(size, int) or size.value for size in shape):
        pairs = permutations(inputs)
        return next((one for one, other in pairs if _is_idle(other) and one.shape == shape), None)
    return None


def _is_idle(value: ir.Value) -> bool:
    expand = _made_by("Expand", value)
    given = expand.inputs[0] if expand else value
    if given is None or given.const_value is None:
        return False
    values = given.const_value.numpy()
    return values.dtype.kind == "f" and bool((np.signbit(values) & (values == 0)).all())


def _made_by(operator: str, value: ir.Value) -> ir.Node | None:
    maker = value.producer()
    return maker if maker is not None and maker.op_type == operator else None


def _strip(program: torch.export.ExportedProgram) -> None:
    """Drops stack traces, which name files of the machine that exported."""
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, torch.fx.GraphModule):
            for node in graph_module.graph.nodes:
                node.meta.pop("stack_trace", None)


def _weight_name(node: onnx.NodeProto, initializers: dict[str, onnx.TensorProto]) -> str | None:
    if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx"):
        return None
    order = (1, 0) if node.op_type == "MatMul" else (WEIGHTED[node.op_type],)
    return next((node.input[i] for i in order if i < len(node.input) and node.input[i] in initializers), None)


def _name_layers(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Renames weights that the exporter rewrote, such as a transposed Linear's, after their layer. Returns the layers.

    Of a layer that runs several times it wrote one for each call: they become one again.
    """
    initializers = {item.name: item for item in graph.initializer}
    for node in graph.node:
        name = _weight_name(node, initializers)
        wanted = f"{_scope(node)}.weight"
        if name is None or name.endswith(".weight") or wanted == ".weight":
            continue
        if wanted in initializers and not _alike(initializers[wanted], initializers[name]):
            continue
        held = initializers.pop(name)
        if wanted in initializers:
            graph.initializer.remove(held)
        else:
            held.name = wanted
            initializers[wanted] = held
        for other in graph.node:
            other.input[:] = [wanted if item == name else item for item in other.input]
    return tuple(layer_weights(graph))


def _alike(one: onnx.TensorProto, other: onnx.TensorProto) -> bool:
    first, second = ((item.data_type, item.dims, item.raw_data) for item in (one, other))
    return first == second and bool(one.raw_data)


def _scope(node: onnx.NodeProto) -> str:
    """Module path of the call that made a node: the last but one of the scopes the exporter noted."""
    scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "[]")
    names = ast.literal_eval(scopes)
    return str(names[-2]) if len(names) > 1 else ""


def _tidy(proto: onnx.ModelProto, *, free_batch: bool) -> None:
    """Names the batch axis `batch` and drops the exporter's notes, so equal networks give equal bytes."""
    graph = proto.graph
    dims = (dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim)
    symbol = next(filter(None, dims), "")
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if free_batch and symbol and dim.dim_param == symbol:
                dim.dim_param = "batch"
    for node in (*graph.node, *(node for function in proto.functions for node in function.node)):
        del node.metadata_props[:]
        node.doc_string = ""
    for item in graph.initializer:
        del item.metadata_props[:]
    del graph.metadata_props[:]
    del proto.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which logs a missing torchvision at every call, deprecation warnings of its libraries, and graphs
    that torch prints where a network cannot be exported. One thread at a time."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    with muted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def _collecting_once() -> Iterator[None]:
    """Keeps the exporter's table of operators between exports.

    It makes the table at each one and parses the source of 497 functions for it: two thirds of the time of
    exporting a small network. Changes nothing where a version of torch has the table elsewhere.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        own = vars(ONNXRegistry)["from_torchlib"]
    except (ImportError, KeyError):
        yield
        return
    replace: Callable[[Any], None] = partial(setattr, ONNXRegistry, "from_torchlib")
    replace(staticmethod(partial(_collect, ONNXRegistry.from_torchlib)))
    try:
        yield
    finally:
        replace(own)


@cache
def _collect(collect: Callable[..., Any], *arguments: int, **named: int) -> Any:
    return collect(*arguments, **named)
