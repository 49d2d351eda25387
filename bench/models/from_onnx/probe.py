"""Runs an ONNX file at two batch sizes with every value as an output, to know shapes and what depends on the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from bench.errors import Unavailable, Unsupported
from bench.formats.onnx_walk import DRAWN, subgraphs

Array = NDArray[np.generic]
Feed = Mapping[str, Array]
BATCHES = (2, 3)


@dataclass(frozen=True, slots=True)
class PerBatch:
    """A size that grows with the batch: `factor` times the batch size."""

    factor: int


Size = int | PerBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the two runs showed.

    `sizes`: value name -> its shape, each axis a number or `PerBatch`. `constants`: values that no input decides and
    that are the same at both batch sizes. `derived`: integer vectors of sizes, an element a number or `PerBatch`.
    `filled`: tensors of one value whose shape grows with the batch.
    `feed` and `values`: inputs of the first run and all values it gave, to compare the torch network with.
    """

    sizes: Mapping[str, tuple[Size, ...]]
    constants: Mapping[str, Array]
    derived: Mapping[str, tuple[Size, ...]]
    filled: Mapping[str, float]
    feed: Feed
    values: Mapping[str, Array] = field(default_factory=dict)


def probe(model: ModelProto, feeds: Sequence[Feed]) -> Probe:
    """`feeds`: inputs at batch 2 and at batch 3, or only one where the batch is fixed.

    Raises `Unavailable` without ONNX Runtime and `Unsupported` where it cannot run the file, with its words.
    """
    names = [name for node in model.graph.node for name in node.output if name]
    open_model = _with_outputs(model, names)
    runs = [_run(open_model, feed, names) for feed in feeds]
    first, last = runs[0], runs[-1]
    fixed = _independent(model)
    sizes = {name: _sizes(first[name].shape, last[name].shape) for name in names if name in first}
    for item in model.graph.input:
        if item.name in feeds[0]:
            sizes[item.name] = _sizes(feeds[0][item.name].shape, feeds[-1][item.name].shape)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    derived: dict[str, tuple[Size, ...]] = {}
    filled: dict[str, float] = {}
    for name in fixed & set(first):
        one, two = first[name], last[name]
        if one.shape == two.shape and np.array_equal(one, two):
            constants[name] = one
        elif one.shape == two.shape and one.dtype.kind in "iu" and one.ndim <= 1:
            derived[name] = _sizes(np.atleast_1d(one).tolist(), np.atleast_1d(two).tolist())
        elif one.size and (one == one.flat[0]).all() and (two == one.flat[0]).all():
            filled[name] = float(one.flat[0])
    return Probe(
        sizes=sizes,
        constants=constants,
        derived=derived,
        filled=filled,
        feed=feeds[0],
        values=first,
    )


def _independent(model: ModelProto) -> set[str]:
    """Names of the values that only constants and shapes decide."""
    known = {item.name for item in model.graph.initializer} | {""}
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in DRAWN or any(True for _ in subgraphs(node)):
            continue
        if node.op_type in {"Shape", "Size"} or all(name in known for name in node.input):
            known.update(node.output)
            found.update(node.output)
    return found


def _sizes(one: Sequence[int], two: Sequence[int]) -> tuple[Size, ...]:
    """Raises `Unsupported` for a size that is neither fixed nor a multiple of the batch."""
    if len(one) != len(two):
        raise Unsupported(f"the rank of a value depends on the batch: {tuple(one)}, {tuple(two)}")
    return tuple(_size(int(a), int(b)) for a, b in zip(one, two, strict=True))


def _size(one: int, two: int) -> Size:
    if one == two:
        return one
    small, large = BATCHES
    if one * large == two * small and one % small == 0:
        return PerBatch(one // small)
    raise Unsupported(f"a size is {one} at batch {small} and {two} at batch {large}: neither fixed nor a multiple")


def _with_outputs(model: ModelProto, names: Sequence[str]) -> bytes:
    copy = ModelProto()
    copy.CopyFrom(model)
    there = {item.name for item in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in there)
    content: bytes = copy.SerializeToString()
    return content


def _run(model: bytes, feed: Feed, names: Sequence[str]) -> dict[str, Array]:
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(
            "an ONNX file is turned into a torch network with ONNX Runtime's help: pip install 'pressbench[ort]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found: list[Any] = session.run(list(names), dict(feed))
    except Exception as error:
        raise Unsupported(f"ONNX Runtime cannot run it: {str(error).splitlines()[0][:200]}") from error
    return {name: value for name, value in zip(names, found, strict=True) if isinstance(value, np.ndarray)}
