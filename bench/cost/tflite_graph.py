"""Cost of a .tflite file, counted on its main graph at batch 1. Conventions: docs/cost.md, the same as for .onnx.

Formulas follow the operator definitions at https://ai.google.dev/edge/litert (weights of convolutions
are O, H, W, I; activations N, H, W, C). A file that holds several graphs is counted by its first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from bench.cost.ledger import Flow, Leaf, Operand, Step, Work, common_batch, leaves_of, total, weighted
from bench.cost.tflite_rules import FREE, FREE_ELEMENTWISE, STATEFUL
from bench.errors import InvalidInput
from bench.formats.flatbuffer import Malformed
from bench.formats.tflite_file import Array, Graph, Operator, Tensor, constant_values, read_tflite
from bench.formats.tflite_schema import FLOATS
from bench.types import Cost

VIEWS = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
Constants = Mapping[int, Operand]


class ShapeUnknown(Exception):  # noqa: N818 - a fact about the graph, told in `Cost.unknown`
    """A shape that only a run of the network can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One operator and the graph around it."""

    graph: Graph
    operator: Operator
    constants: Constants

    def tensor(self, index: int) -> Tensor | None:
        """An input; None where it is left out."""
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[index]] if index < len(inputs) and inputs[index] >= 0 else None

    def shape(self, index: int, rank: int = 0) -> tuple[int, ...]:
        """Shape of an input of at least this rank. Raises `ShapeUnknown`."""
        tensor = self.tensor(index)
        if tensor is None or tensor.shape is None or len(tensor.shape) < rank:
            raise ShapeUnknown("shape of an operand known at run time only")
        return tensor.shape

    def output(self, rank: int = 0) -> tuple[int, ...]:
        """Shape of the first output. Raises `ShapeUnknown`."""
        outputs = self.operator.outputs
        shape = self.graph.tensors[outputs[0]].shape if outputs else None
        if shape is None or len(shape) < rank:
            raise ShapeUnknown("shape of an operand known at run time only")
        return shape

    def constant(self, index: int) -> Operand | None:
        """A constant input."""
        inputs = self.operator.inputs
        return self.constants.get(inputs[index]) if index < len(inputs) else None


Rule = Callable[[View], Work]


def _convolution(view: View) -> Work:
    """Each weight once for every output position: O*H*W*I * N * spatial outputs (I is already per group)."""
    out = view.output(rank=3)
    weight = view.constant(1)
    return weighted(prod(view.shape(1, rank=3)) * prod(out[:-1]), weight, (weight, view.constant(2)))


def _transposed_convolution(view: View) -> Work:
    """Each weight once for every input position; inputs are (output shape, weight, activation, bias)."""
    weight = view.constant(1)
    return weighted(prod(view.shape(1)) * prod(view.shape(2, rank=3)[:-1]), weight, (weight, view.constant(3)))


def _fully_connected(view: View) -> Work:
    """Each of O*I weights once for every row of the activation."""
    outputs, inner = view.shape(1, rank=2)[-2:]
    rows = prod(view.output()) // outputs if outputs else 0
    weight = view.constant(1)
    return weighted(rows * outputs * inner, weight, (weight, view.constant(2)))


def _batch_matmul(view: View) -> Work:
    options = view.operator.options
    inner = view.shape(0, rank=2)[-2 if options is not None and options.scalar(0, "B") else -1]
    first, second = view.constant(0), view.constant(1)
    return weighted(prod(view.output()) * inner, second or first, (first, second))


def _recurrent(matrices: Iterable[int], vectors: Iterable[int], *, steps: bool) -> Rule:
    """Every matrix once for each sample, and each time step where the operator loops over them itself."""
    wanted, sides = tuple(matrices), tuple(vectors)

    def rule(view: View) -> Work:
        uses = prod(view.shape(0, rank=2)[: 2 if steps else 1])
        places = [index for index in wanted if view.tensor(index) is not None]
        found = {index: view.constant(index) for index in places}
        macs = sum(uses * prod(view.shape(index)) for index in places)
        nonzero = sum(uses * (part.nonzero if part else prod(view.shape(index))) for index, part in found.items())
        params = (*found.values(), *(view.constant(index) for index in sides))
        return Work(macs=macs, nonzero_macs=nonzero, params=tuple(part for part in params if part is not None))

    return rule


def _table(place: int) -> Rule:
    """No MACs; one input is parameters."""

    def rule(view: View) -> Work:
        part = view.constant(place)
        return Work(params=() if part is None else (part,))

    return rule


def _elementwise(view: View) -> Work:
    """No MACs; constant operands of real numbers are parameters, but for literals: scalars, and any single
    value unless it is added (the bias of a layer with one output)."""
    least = 1 if view.operator.name == "ADD" else 2
    real = [
        index
        for index in range(len(view.operator.inputs))
        if (tensor := view.tensor(index)) is not None and (tensor.quantized or tensor.kind.name in FLOATS)
    ]
    found = (view.constant(index) for index in real)
    return Work(params=tuple(part for part in found if part is not None and part.size >= least))


def _free(view: View) -> Work:
    del view
    return Work()


LSTM = ((*range(1, 9), 16), (*range(9, 16), 17, *range(20, 24)))
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(FREE, _free),
    **dict.fromkeys(FREE_ELEMENTWISE, _elementwise),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "CONV_3D": _convolution,
    "TRANSPOSE_CONV": _transposed_convolution,
    "CONV_3D_TRANSPOSE": _transposed_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(*LSTM, steps=True),
    "LSTM": _recurrent(*LSTM, steps=False),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent((1, 2), (3,), steps=True),
    "RNN": _recurrent((1, 2), (3,), steps=False),
    "SVDF": _recurrent((1, 2), (3,), steps=False),
    "GATHER": _table(0),
    "PRELU": _table(1),
    "EMBEDDING_LOOKUP": _table(1),
}


def tflite_cost(file: Path) -> Cost:
    """Raises `InvalidInput` for a file that is no TFLite model, is cut off, or points outside itself."""
    graph = read_tflite(file)
    unknown = [f"input {name!r} (free axes besides the batch are counted as stored)" for name in graph.free_inputs()]
    constants, running = _constants(graph)
    try:
        steps = [_step(graph, operator, constants, unknown) for operator in running]
    except Malformed as error:
        raise InvalidInput(f"{file} is no TFLite model or is cut off: {error}") from error
    return total(
        steps,
        _flow(graph, running, constants, unknown),
        batch=common_batch(
            [graph.tensors[index].shape or () for index in graph.inputs],
            [graph.tensors[index].shape or () for index in graph.outputs],
        ),
        file_bytes=graph.file_bytes,
        unknown=unknown,
    )


def _constants(graph: Graph) -> tuple[dict[int, Operand], list[Operator]]:
    """Constant tensors, those computed from constants alone among them; and the operators that run."""
    known = {index: _stored(tensor) for index, tensor in enumerate(graph.tensors) if tensor.raw is not None}
    running = []
    for operator in graph.operators:
        present = [index for index in operator.inputs if index >= 0]
        if present and operator.name not in STATEFUL and all(index in known for index in present):
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
    """A constant the graph computes; what moves or converts values (input 0) keeps their share of zeros."""
    stored = {key: size for part in parts for key, size in part.stored.items()}
    if operator.name in ("DEQUANTIZE", "TRANSPOSE", "RESHAPE", "CAST", "DENSIFY", "EXPAND_DIMS", "SQUEEZE"):
        return Operand(size=parts[0].size, nonzero=parts[0].nonzero, leaves=parts[0].leaves, stored=stored)
    return Operand(size=0, nonzero=0, leaves=leaves_of(parts), stored=stored)


def _step(graph: Graph, operator: Operator, constants: Constants, unknown: list[str]) -> Step:
    view, work = View(graph=graph, operator=operator, constants=constants), Work()
    rule = RULES.get(operator.name)
    if rule is None:
        unknown.append(operator.name)
    else:
        try:
            work = rule(view)
        except ShapeUnknown as reason:
            unknown.append(f"{operator.name} ({reason})")
    written = graph.tensors[operator.outputs[0]] if operator.outputs else None
    return Step(
        name=_short(written.name) if written is not None else operator.name,
        operator=operator.name,
        work=work,
        stored={key: size for i in operator.inputs if i in constants for key, size in constants[i].stored.items()},
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
