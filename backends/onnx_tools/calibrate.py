"""Activation ranges from calibration data, streamed: memory holds one chunk and the histograms, never the set.

Two passes: minima and maxima are reduced inside the graph; where the method needs more, a second pass
counts values into fixed bins between them. ONNX Runtime's own calibrators keep every activation of the
whole set (github.com/microsoft/onnxruntime issue 10503: 256 GB), and their entropy method searches 128
bins for 128 levels, which leaves nothing to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from backends.calibration.clip import BINS, METHODS, Histogram, clip_range, count
from backends.onnx_tools.graph import fixed_batch, infer, producers
from backends.onnx_tools.native import NATIVE_ERRORS, explain_refusal, ort
from bench.errors import InvalidInput, unknown
from bench.types import QuantSpec

Arrays = Mapping[str, NDArray[np.generic]]
CHUNK_BYTES = 64 * 2**20
LOWEST = float(np.finfo(np.float32).min)


def load_calibration(path: Path, model: ModelProto, samples: int) -> Arrays:
    """The first `samples` rows of each input. Raises `InvalidInput` for a missing input, NaN or wrong shape."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name][:samples] for name in stored.files}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: no calibration data (.npz keyed by input name): {error}") from error
    for value in model.graph.input:
        if value.name not in arrays:
            raise InvalidInput(f"{path}: no array for input {value.name!r} (it has {', '.join(sorted(arrays))})")
        wanted = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:]
        found = arrays[value.name]
        if found.shape[1:] != wanted or not len(found):
            raise InvalidInput(f"{path}: {value.name!r} has shape {found.shape}, rows of {wanted} are wanted")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise InvalidInput(f"{path}: {value.name!r} holds NaN or infinity")
    return arrays


def activation_ranges(model: ModelProto, data: Arrays, spec: QuantSpec) -> dict[str, tuple[float, float]]:
    """Tensor -> (low <= 0, high >= 0) for every float tensor, by `spec.calibration`."""
    if spec.calibration not in {"minmax", *METHODS}:
        raise unknown("calibration", spec.calibration, ("minmax", *METHODS))
    tensors = float_tensors(model)
    extremes = _extremes(model, tensors, data)
    if spec.calibration == "minmax":
        return extremes
    return {name: clip_range(seen, spec) for name, seen in _histograms(model, extremes, data).items()}


def float_tensors(model: ModelProto) -> list[str]:
    """Float32 activations whose type is known: inputs, outputs and what lies between."""
    graph = (infer(model) or model).graph
    real = {value.name for value in graph.input} | set(producers(graph))  # an optimizer leaves types of what it folded
    found = [
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name in real
    ]
    return list(dict.fromkeys(found))


def _extremes(model: ModelProto, tensors: Sequence[str], data: Arrays) -> dict[str, tuple[float, float]]:
    """Minimum and maximum over the set, widened to hold 0 (a quantized 0 must be exact)."""
    added = ModelProto()
    added.CopyFrom(model)
    names = [f"{name}/{reduce}" for name in tensors for reduce in ("ReduceMin", "ReduceMax")]
    for output in names:
        tensor, reduce = output.rsplit("/", 1)
        added.graph.node.append(helper.make_node(reduce, [tensor], [output], name=output, keepdims=0))
        added.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    session = float_session(added)
    seen = np.array([np.stack(session.run(names, part)) for part in _chunks(model, data, _rows(model, 1))])
    lows = np.maximum(np.minimum(seen[:, 0::2].min(axis=0), 0), LOWEST)  # minus infinity masks scores
    highs = np.maximum(seen[:, 1::2].max(axis=0), 0)
    for name, low, high in zip(tensors, lows, highs, strict=True):
        if not np.isfinite(low) or not np.isfinite(high):
            raise InvalidInput(f"calibration: tensor {name!r} becomes NaN or infinite in float32 already")
    return {name: (float(low), float(high)) for name, low, high in zip(tensors, lows, highs, strict=True)}


def _histograms(model: ModelProto, extremes: Mapping[str, tuple[float, float]], data: Arrays) -> dict[str, Histogram]:
    """Counts in 2048 equal bins between the extremes of each tensor."""
    added = ModelProto()
    added.CopyFrom(model)
    outputs = {value.name for value in added.graph.output}
    inputs = {value.name for value in added.graph.input}
    names = [name for name in extremes if name not in inputs]
    for name in names:
        if name not in outputs:
            added.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = float_session(added)
    counts = {name: np.zeros(BINS) for name in extremes}
    sample = next(_chunks(model, data, _rows(model, 1)))
    bytes_each = sum(value.nbytes for value in session.run(names, sample))
    rows = _rows(model, max(1, CHUNK_BYTES // max(1, bytes_each)))
    for part in _chunks(model, data, rows):
        values = dict(zip(names, session.run(names, part), strict=True))
        for name, (low, high) in extremes.items():
            found = values[name] if name in values else part[name]
            counts[name] += count(np.maximum(found, LOWEST) if low == LOWEST else found, low, high)
    return {name: Histogram(low=low, high=high, counts=counts[name]) for name, (low, high) in extremes.items()}


def _rows(model: ModelProto, wanted: int) -> int:
    """Rows of a chunk: the file's fixed batch, else the wanted number (at most 32)."""
    return fixed_batch(model) or min(32, wanted)


def _chunks(model: ModelProto, data: Arrays, rows: int) -> Iterator[Arrays]:
    """The set in chunks of `rows`; where the batch is fixed the last is filled up from the start."""
    names = [value.name for value in model.graph.input]
    total = len(data[names[0]])
    fixed = fixed_batch(model) is not None
    for start in range(0, total, rows):
        stop = start + rows if fixed else min(total, start + rows)
        index = np.arange(start, stop) % total
        yield {name: np.ascontiguousarray(data[name][index]) for name in names}


def float_session(model: ModelProto) -> ort.InferenceSession:
    """The float model on the CPU. Raises `InvalidInput` for what ONNX Runtime does not take."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except NATIVE_ERRORS as error:
        raise explain_refusal("the network", str(error)) from error
