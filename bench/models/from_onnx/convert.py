"""From an ONNX graph to a torch network that computes the same, or a refusal that names the operator.

Every weight becomes a parameter of a layer of `torch.nn` named after it, so that pruning, factorization, sharing and
training find it. Shape arithmetic disappears: sizes are taken from two runs of the file at batch 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, fx, nn

from bench.errors import Unsupported
from bench.models.from_onnx.branches import settle_branches
from bench.models.from_onnx.builder import Builder, Handler, Operation, as_tensor, count_uses, operation
from bench.models.from_onnx.feeds import draw_feed, free_batch, input_shapes
from bench.models.from_onnx.functions import FUNCTIONS
from bench.models.from_onnx.probe import BATCHES, Probe, probe
from bench.models.from_onnx.recurrent import RECURRENT
from bench.models.from_onnx.shapes import SHAPES
from bench.models.from_onnx.weighted import WEIGHTED, linear
from bench.models.muted import muted

HANDLERS: dict[str, Handler] = {**WEIGHTED, **RECURRENT, **FUNCTIONS, **SHAPES}
TOLERANCE = 1e-4
"""Largest difference from ONNX Runtime, relative to the largest output, of a network that is the same."""
TORCH_ERRORS = (KeyError, ValueError, TypeError, IndexError, RuntimeError)
DOMAINS = {"", "ai.onnx"}


def convert(model: ModelProto) -> nn.Module:
    """The network, in evaluation mode. Its inputs and outputs are the file's, in the file's order.

    Raises:
        Unsupported: an operator, a type or a shape that torch cannot have the same way; names it.
        Unavailable: ONNX Runtime is not installed.

    """
    model = settle_branches(model, lambda one: (_probed(one), _probed_alone(one)))
    _check_domains(model)
    shown = _probed(model)
    inputs = list(input_shapes(model))
    b = Builder(probe=shown, opset=_opset(model), uses=count_uses(model.graph))
    for name in inputs:
        b.values[name] = b.graph.placeholder(_identifier(name))
    b.batch_of = inputs[0]
    _build(b, list(map(operation, model.graph.node)))
    outputs = [b.value(item.name) for item in model.graph.output]
    b.graph.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
    module = fx.GraphModule(b.root, b.graph).eval()
    places = {value.name: name for name, value in b.values.items() if isinstance(value, fx.Node)}
    _check_outputs(module, shown, [item.name for item in model.graph.output], places)
    return module


def _check_domains(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise Unsupported(f"operator {node.op_type} {node.name!r} of domain {node.domain} has no torch form here")
        if node.op_type in {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"} or "Integer" in node.op_type:
            raise Unsupported(f"operator {node.op_type} {node.name!r}: the file is quantized; give the float one")


def _opset(model: ModelProto) -> int:
    return next((item.version for item in model.opset_import if item.domain in DOMAINS), 1)


def _probed(model: ModelProto) -> Probe:
    """Two runs where the batch is free or can be freed, one as the file is where it cannot."""
    try:
        freed = free_batch(model)
        return probe(freed, [draw_feed(freed, batch, seed) for seed, batch in enumerate(BATCHES)])
    except Unsupported as refused:
        feed = draw_feed(model, 0, 0)
        try:
            return probe(model, [feed])
        except Unsupported:
            raise refused from None


def _probed_alone(model: ModelProto) -> Probe:
    """One run at batch 1, or as the file is where that cannot be."""
    try:
        freed = free_batch(model)
        return probe(freed, [draw_feed(freed, 1, 0)])
    except Unsupported:
        return probe(model, [draw_feed(model, 0, 0)])


def _build(b: Builder, nodes: Sequence[Operation]) -> None:
    """Adds every operator that runs."""
    sums = dict(_biased_products(b, nodes))
    inside = {product.outputs[0] for product, _ in sums.values()}
    for op in nodes:
        if op.outputs[0] in inside or all(_is_known(b, name) for name in op.outputs if name):
            continue
        if op.outputs[0] in sums:
            product, bias = sums[op.outputs[0]]
            found: Any = linear(b, product, as_tensor(b.need(product, 1, "matrix")), as_tensor(b.probe.constants[bias]))
        else:
            found = _added(b, op)
        values = found if isinstance(found, tuple) else (found,)
        b.values.update({name: value for name, value in zip(op.outputs, values, strict=False) if name})


def _is_known(b: Builder, name: str) -> bool:
    return name in b.probe.constants or name in b.probe.derived or name in b.probe.filled


def _added(b: Builder, op: Operation) -> Any:
    if op.kind not in HANDLERS:
        raise op.refuse("it has no torch form here")
    try:
        return HANDLERS[op.kind](b, op)
    except TORCH_ERRORS as error:
        raise op.refuse(f"torch cannot have it as the file has it ({type(error).__name__}: {error})") from error


def _biased_products(b: Builder, nodes: Sequence[Operation]) -> Iterator[tuple[str, tuple[Operation, str]]]:
    """Sums of a product with a constant matrix and a constant vector: their output -> the product and the vector."""
    products = {
        op.outputs[0]: op
        for op in nodes
        if op.kind == "MatMul" and (matrix := b.known(op.inputs[1])) is not None and matrix.ndim == 2
        and b.known(op.inputs[0]) is None and b.uses.get(op.outputs[0]) == 1
    }  # fmt: skip
    for op in nodes:
        if op.kind != "Add":
            continue
        for product, bias in (op.inputs, op.inputs[::-1]):
            vector = b.known(bias)
            if product in products and vector is not None:
                width = b.need(products[product], 1, "matrix").shape[1]
                if vector.shape == (width,):
                    yield op.outputs[0], (products[product], bias)


def _identifier(name: str) -> str:
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in name)
    return cleaned if cleaned.isidentifier() else f"input_{cleaned}"


def _check_outputs(module: fx.GraphModule, shown: Probe, outputs: Sequence[str], places: Mapping[str, str]) -> None:
    """Raises `Unsupported` naming the first operator whose values differ from ONNX Runtime's.

    `places`: name of an fx value -> name of the ONNX value it stands for.
    """
    feed = [torch.from_numpy(np.array(value)) for value in shown.feed.values()]
    try:
        with torch.no_grad(), muted():  # torch.fx prints a traceback of what it raises
            found = module(*feed)
    except TORCH_ERRORS as error:
        first = str(error).splitlines()[0]
        raise Unsupported(f"the torch network made of it does not run: {first}") from error
    found = found if isinstance(found, tuple) else (found,)
    if all(same(value, shown.values[name]) for name, value in zip(outputs, found, strict=True) if name in shown.values):
        return
    first = _first_difference(module, feed, shown, places)
    raise Unsupported(
        f"the torch network differs from the file at {first}: give the network as package.module:function"
    )


def _first_difference(module: fx.GraphModule, feed: Sequence[Tensor], shown: Probe, places: Mapping[str, str]) -> str:
    seen: list[str] = []

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            name = places.get(n.name, "")
            if isinstance(value, Tensor) and name in shown.values and not same(value, shown.values[name]):
                seen.append(name)
            return value

    with torch.no_grad():
        Watch(module).run(*feed)
    return f"value {seen[0]!r}" if seen else "its outputs"


def same(value: Any, wanted: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Equal in shape, and to `tolerance` relative to the largest value; integers and truths exactly."""
    got = np.asarray(value)
    if got.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool((got == wanted).all())
    scale = max(1e-6, float(np.abs(wanted).max(initial=0.0)))
    return bool(np.abs(got - wanted).max(initial=0.0) <= tolerance * scale)
