"""Activation ranges from calibration data, streamed: memory holds one chunk and the histograms, never the set.

Two passes: minima and maxima are reduced inside the graph; where the method needs more, a second pass
counts values into fixed bins between them. ONNX Runtime's own calibrators keep every activation of the
whole set (github.com/microsoft/onnxruntime issue 10503: 256 GB), and their entropy method searches 128
bins for 128 levels, which leaves nothing to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from backends.calibration.clip import BINS, METHODS, Histogram, clip_range, count
from backends.onnx_tools.graph import infer, producers
from backends.onnx_tools.native import NATIVE_ERRORS, explain_refusal, ort
from bench.device.inputs import make_feed
from bench.errors import InvalidInput, first_line, unknown
from bench.types import Compressed, QuantSpec, TensorSpec

Arrays = Mapping[str, NDArray[np.generic]]
CHUNK_BYTES = 64 * 2**20
MOST_ROWS = 32
LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """What a network is calibrated on. `arrays`: one for each of `specs`, samples first.

    `feedback`: (output, input): what one sample gives is what the next takes.
    """

    specs: tuple[TensorSpec, ...]
    arrays: tuple[NDArray[np.generic], ...]
    feedback: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int | None:
        """How many samples one inference must take; None where any number will do."""
        sizes = [spec.shape[spec.axis] for spec in self.specs if spec.axis is not None]
        if sizes and -1 not in sizes:
            return sizes[0]
        pairs = zip(self.specs, self.arrays, strict=True)
        vary = any(spec.axis is None and bool((array != array[:1]).any()) for spec, array in pairs)
        return 1 if not sizes or self.feedback or vary else None

    def feeds(self, rows: int) -> Iterator[dict[str, NDArray[np.generic]]]:
        """All samples in feeds of `rows`; the last one is filled up where a fixed batch wants it."""
        total, fixed = len(self.arrays[0]), self.rows
        for start in range(0, total, rows):
            size = rows if fixed else min(rows, total - start)
            yield make_feed(self.arrays, [replace(spec, shape=spec.at(size)) for spec in self.specs], start)


def load_calibration(source: Compressed, samples: int) -> Samples:
    """The first `samples` of each input of a compressed network.

    Raises `InvalidInput` where there are none, for a missing input, a wrong shape, and NaN.
    """
    if source.calibration is None:
        raise InvalidInput(f"{source.model}: static quantization needs calibration data, there is none")
    path = source.calibration
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name][:samples] for name in stored.files}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: no calibration data (.npz keyed by input name): {error}") from error
    for spec in source.inputs:
        if spec.name not in arrays:
            raise InvalidInput(f"{path}: no array for input {spec.name!r} (it has {', '.join(sorted(arrays))})")
        found = arrays[spec.name]
        if found.shape[1:] != spec.sample_shape or not len(found):
            raise InvalidInput(f"{path}: {spec.name!r} has shape {found.shape}, rows of {spec.sample_shape} are wanted")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise InvalidInput(f"{path}: {spec.name!r} holds NaN or infinity")
    picked = tuple(arrays[spec.name] for spec in source.inputs)
    return Samples(specs=source.inputs, arrays=picked, feedback=source.feedback)


def activation_ranges(model: ModelProto, data: Samples, spec: QuantSpec) -> dict[str, tuple[float, float]]:
    """Tensor -> (low <= 0, high >= 0) for every float tensor, by `spec.calibration`."""
    if spec.calibration not in {"minmax", *METHODS}:
        raise unknown("calibration", spec.calibration, ("minmax", *METHODS))
    tensors = float_tensors(model)
    if not tensors:
        return {}
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


def _extremes(model: ModelProto, tensors: Sequence[str], data: Samples) -> dict[str, tuple[float, float]]:
    """Minimum and maximum over the set, widened to hold 0 (a quantized 0 must be exact)."""
    added = ModelProto()
    added.CopyFrom(model)
    names = [f"{name}/{reduce}" for name in tensors for reduce in ("ReduceMin", "ReduceMax")]
    for output in names:
        tensor, reduce = output.rsplit("/", 1)
        added.graph.node.append(helper.make_node(reduce, [tensor], [output], name=output, keepdims=0))
        added.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    runs = _run(float_session(added), names, data, data.rows or 1)
    seen = np.array([np.stack(found) for _, found in runs])
    lows = np.maximum(np.minimum(seen[:, 0::2].min(axis=0), 0), LOWEST)  # minus infinity masks scores
    highs = np.maximum(seen[:, 1::2].max(axis=0), 0)
    for name, low, high in zip(tensors, lows, highs, strict=True):
        if not np.isfinite(low) or not np.isfinite(high):
            raise InvalidInput(f"calibration: tensor {name!r} becomes NaN or infinite in float32 already")
    return {name: (float(low), float(high)) for name, low, high in zip(tensors, lows, highs, strict=True)}


def _histograms(model: ModelProto, extremes: Mapping[str, tuple[float, float]], data: Samples) -> dict[str, Histogram]:
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
    _, sample = next(_run(session, names, data, data.rows or 1))
    bytes_each = sum(value.nbytes for value in sample)
    rows = data.rows or min(MOST_ROWS, max(1, CHUNK_BYTES // max(1, bytes_each)))
    for part, found_values in _run(session, names, data, rows):
        values = dict(zip(names, found_values, strict=True))
        for name, (low, high) in extremes.items():
            found = values[name] if name in values else part[name]
            counts[name] += count(np.maximum(found, LOWEST) if low == LOWEST else found, low, high)
    return {name: Histogram(low=low, high=high, counts=counts[name]) for name, (low, high) in extremes.items()}


def _run(
    session: ort.InferenceSession, names: Sequence[str], data: Samples, rows: int
) -> Iterator[tuple[Arrays, list[NDArray[np.generic]]]]:
    """Each feed, and the values of `names` for it. What is fed back is in the feeds."""
    returned = [output for output, _ in data.feedback]
    state: dict[str, NDArray[np.generic]] = {}
    for feed in data.feeds(rows):
        part = {**feed, **state}
        try:
            found = session.run([*names, *returned], part)
        except NATIVE_ERRORS as error:
            raise InvalidInput(f"ONNX Runtime failed on a calibration sample: {first_line(error)}") from error
        state = {name: value for (_, name), value in zip(data.feedback, found[len(names) :], strict=True)}
        yield part, found[: len(names)]


def float_session(model: ModelProto) -> ort.InferenceSession:
    """The float model on the CPU. Raises `InvalidInput` for what ONNX Runtime does not take."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # an error is raised too
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except NATIVE_ERRORS as error:
        raise explain_refusal("the network", str(error)) from error
