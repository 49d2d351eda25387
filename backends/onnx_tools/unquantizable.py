"""Finds what a scheme cannot quantize, so that it stays float and the rest of the network does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from backends.onnx_tools.graph import producers
from backends.onnx_tools.operators import MULTIPLYING
from backends.onnx_tools.ready import TOOL_ERRORS
from bench.errors import Unsupported

Ranges = Mapping[str, tuple[float, float]]
UNSCALABLE = 1e9
"""A range this wide holds a mask (float32's lowest number, -1e9), and a step of int8 would swallow every other value."""
MASKED = -1e3
"""Scores below this come from a mask where they enter a softmax (BERT's is -10000)."""
SOFTMAX = frozenset({"Softmax", "LogSoftmax"})


def quantize_what_can_be(
    quantize: Callable[[Sequence[str]], None], nodes: Sequence[str], excluded: Sequence[str]
) -> None:
    """Calls `quantize(names of nodes to leave float)`; where it fails, finds the nodes at fault and leaves them float.

    Halves the list of nodes, so that each fault costs a logarithm of tries. Raises `Unsupported` with the tool's
    message when no single node is at fault.
    """
    try:
        quantize(excluded)
    except TOOL_ERRORS as error:
        wanted = [name for name in nodes if name not in set(excluded)]
        faulty = _find_faulty(quantize, wanted, nodes)
        if len(faulty) in (0, len(wanted)):
            raise _explain(error) from error
        try:
            quantize([*excluded, *faulty])
        except TOOL_ERRORS as again:
            raise _explain(again) from again


def _explain(error: Exception) -> Unsupported:
    return Unsupported(f"ONNX Runtime cannot quantize this network: {error}")


def _find_faulty(quantize: Callable[[Sequence[str]], None], names: Sequence[str], nodes: Sequence[str]) -> list[str]:
    """Those of `names` whose quantization fails when all other nodes stay float."""
    if not names:
        return []
    chosen = set(names)
    try:
        quantize([name for name in nodes if name not in chosen])
    except TOOL_ERRORS:
        if len(names) == 1:
            return list(names)
        half = len(names) // 2
        return [*_find_faulty(quantize, names[:half], nodes), *_find_faulty(quantize, names[half:], nodes)]
    return []


def find_masked(model: ModelProto, ranges: Ranges) -> list[str]:
    """Nodes that carry the numbers of a mask: they stay float, as do the softmaxes they lead to."""
    graph = model.graph
    huge = {name for name, (low, high) in {**ranges, **_stored_ranges(graph)}.items() if max(-low, high) >= UNSCALABLE}
    made = producers(graph)
    todo = [name for node in graph.node if node.op_type in SOFTMAX for name in node.input]
    masked: set[str] = set()
    while todo:
        name = todo.pop()
        if name in masked or ranges.get(name, (0.0, 0.0))[0] > MASKED or name not in made:
            continue
        if made[name].op_type not in MULTIPLYING:
            masked.add(name)
            todo.extend(made[name].input)
    return [
        node.name
        for node in graph.node
        if huge.intersection((*node.input, *node.output)) or masked.intersection(node.output)
    ]


def find_softmaxes(model: ModelProto) -> list[str]:
    """Softmaxes stay float: int8 over 0 to 1 makes 0 of every probability under 1/512."""
    return [node.name for node in model.graph.node if node.op_type in SOFTMAX]


def find_clips(model: ModelProto) -> list[str]:
    """Clips stay float unless they cut at 0 and above it: no int8 range ends where the others do.

    ONNX Runtime's quantizer takes a Clip away and leaves its limits to the range of the tensor. That range holds 0, and
    where it has both signs it may be widened to be symmetric.
    """
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Clip" and not _cuts_at_zero(node, stored)]


def _cuts_at_zero(node: NodeProto, stored: Mapping[str, np.ndarray]) -> bool:
    low, high = (*node.input[1:], "", "")[:2]
    if low not in stored or float(stored[low]) != 0:
        return False
    return not high or (high in stored and float(stored[high]) > 0)


def _stored_ranges(graph: GraphProto) -> dict[str, tuple[float, float]]:
    arrays: Iterable[tuple[str, np.ndarray]] = (
        (item.name, numpy_helper.to_array(item)) for item in graph.initializer if item.data_type == 1
    )
    return {name: (float(array.min()), float(array.max())) for name, array in arrays if array.size}
