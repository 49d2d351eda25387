"""Cost of a .tflite file, counted on its main graph at batch 1. Conventions: docs/cost.md, the same as for .onnx.

A file that holds several graphs is counted by its first.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from bench.cost.ledger import Flow, Leaf, Operand, Step, apply_rule, common_batch, leaves_of, total
from bench.cost.tflite_bodies import BODIES, Bodies, count_bodies
from bench.cost.tflite_rules import RULES, STATEFUL, Constants, View, elementwise
from bench.errors import InvalidInput
from bench.formats.flatbuffer import Malformed
from bench.formats.tflite_file import Array, Graph, Operator, Tensor, constant_values, read_tflite
from bench.types import Cost

VIEWS = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}


def tflite_cost(file: Path, batch: int | None = None) -> Cost:
    """The cost. Raises `InvalidInput` for a file that is not a TFLite model, is cut off, or points outside itself."""
    graph = read_tflite(file)
    unknown = [f"input {name!r} (free axes besides the batch are counted as stored)" for name in graph.free_inputs()]
    constants, running = _constants(graph, {})
    bodies = Bodies(file=file, count=_steps, unknown=unknown)
    try:
        steps = [_step(graph, operator, constants, bodies) for operator in running]
    except Malformed as error:
        raise InvalidInput(f"{file}: truncated, damaged or not a TFLite model: {error}") from error
    return total(
        steps,
        _flow(graph, running, constants, unknown),
        batch=batch
        or common_batch(
            [graph.tensors[index].shape or () for index in graph.inputs],
            [graph.tensors[index].shape or () for index in graph.outputs],
        ),
        file_bytes=graph.file_bytes,
        unknown=unknown,
    )


def _steps(graph: Graph, given: Constants, bodies: Bodies) -> list[Step]:
    """Of a body, whose inputs `given` are constants."""
    constants, running = _constants(graph, given)
    return [_step(graph, operator, constants, bodies) for operator in running]


def _constants(graph: Graph, given: Constants) -> tuple[dict[int, Operand], list[Operator]]:
    """Constant tensors (stored, `given`, or computed only from constants), and the operators that run."""
    known = {index: _stored(tensor) for index, tensor in enumerate(graph.tensors) if tensor.raw is not None}
    known.update(given)
    running = []
    for operator in graph.operators:
        present = [index for index in operator.inputs if index >= 0]
        kind = operator.name.partition(" ")[0]  # a custom operator has a name of its own behind
        if present and kind not in STATEFUL and all(index in known for index in present):
            part = _computed(operator, [known[index] for index in present])
            known.update(dict.fromkeys(operator.outputs, part))
        else:
            running.append(operator)
    return known, running


def _stored(tensor: Tensor) -> Operand:
    values = constant_values(tensor)
    size = prod(tensor.shape or (values.size,))
    nonzero = size if tensor.kind.bits == 0 else _nonzero(tensor, values)
    leaves = (Leaf(key=f"buffer {tensor.buffer}", size=size, nonzero=nonzero),) if tensor.shape else ()
    room = (values.size * tensor.kind.bits + 7) // 8 or values.nbytes
    stored = {f"buffer {tensor.buffer}": room, f"scales of {tensor.buffer}": tensor.scale_bytes}
    return Operand(size=size, nonzero=nonzero, leaves=leaves, stored=stored)


def _nonzero(tensor: Tensor, values: Array) -> int:
    """Values that are not their zero point; what a sparse tensor does not store is zero."""
    points = tensor.zero_points
    if not np.any(points) or tensor.sparse:
        return int(np.count_nonzero(values))
    if points.size == 1:
        return int(np.count_nonzero(values != points.item()))
    shape = tensor.shape or ()
    if not 0 <= tensor.axis < len(shape) or shape[tensor.axis] != points.size:
        return int(values.size)
    broadcast = points.reshape([-1 if axis == tensor.axis else 1 for axis in range(len(shape))])
    return int(np.count_nonzero(values.reshape(shape) != broadcast))


def _computed(operator: Operator, parts: list[Operand]) -> Operand:
    """A constant that the graph computes. Operators that move or convert input 0 keep its share of zeros."""
    stored = {key: size for part in parts for key, size in part.stored.items()}
    if operator.name in ("DEQUANTIZE", "TRANSPOSE", "RESHAPE", "CAST", "DENSIFY", "EXPAND_DIMS", "SQUEEZE"):
        return Operand(size=parts[0].size, nonzero=parts[0].nonzero, leaves=parts[0].leaves, stored=stored)
    return Operand(size=0, nonzero=0, leaves=leaves_of(parts), stored=stored)


def _step(graph: Graph, operator: Operator, constants: Constants, bodies: Bodies) -> Step:
    stored = {key: size for i in operator.inputs if i in constants for key, size in constants[i].stored.items()}
    if operator.name in BODIES:
        inside = count_bodies(graph, operator, constants, bodies)
        work, stored = inside.work, {**stored, **inside.stored}
    else:
        view, rule = View(graph=graph, operator=operator, constants=constants), RULES.get(operator.name)
        work = apply_rule(rule, elementwise, view, replace(view, guess=True), operator.name, bodies.unknown)
    written = graph.tensors[operator.outputs[0]] if operator.outputs else None
    return Step(
        name=_short(written.name) if written is not None else operator.name,
        operator=operator.name,
        work=work,
        stored=stored,
        reads=tuple(str(index) for index in operator.inputs if index >= 0 and index not in constants),
        writes=tuple(str(index) for index in operator.outputs),
        output_shape=(written.shape or ()) if written is not None else (),
    )


def _short(name: str) -> str:
    """The first of the names a converter joined, its scopes without the modules that define them:
    `Sequential/Conv2d_0` of `torch.nn.modules.container.Sequential/torch.nn.modules.conv.Conv2d_0;...`."""
    return "/".join(scope.rpartition(".")[2] for scope in name.split(";", maxsplit=1)[0].split("/"))


def _flow(graph: Graph, running: list[Operator], constants: Constants, unknown: list[str]) -> Flow:
    sizes = {}
    used = {index for operator in running for index in (*operator.inputs, *operator.outputs)}
    for index in sorted(used.union(graph.inputs, graph.outputs).difference(constants, (-1,))):
        tensor = graph.tensors[index]
        if tensor.shape is None or tensor.kind.bits == 0:
            unknown.append(f"tensor {tensor.name!r} (size known at run time only)")
        else:
            sizes[str(index)] = (prod(tensor.shape) * tensor.kind.bits + 7) // 8
    return Flow(
        sizes=sizes,
        alias={
            str(operator.outputs[0]): str(operator.inputs[0])
            for operator in running
            if operator.name in VIEWS and operator.inputs and operator.outputs and operator.inputs[0] >= 0
        },
        inputs=tuple(str(index) for index in graph.inputs),
        outputs=tuple(str(index) for index in graph.outputs if index not in constants),
    )
