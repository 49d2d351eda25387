"""Ranges of a float .tflite's activations over calibration samples, by the rules that ONNX runtimes follow too.

The library's own calibration is a moving average of min and max, which forgets what it saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.calibration.clip import BINS, METHODS, Histogram, clip_range, count
from backends.tflite.graph import describe, open_plain
from bench.errors import InvalidInput, unknown
from bench.types import QuantSpec

Ranges = dict[str, tuple[float, float]]
Floats = NDArray[np.float32]


def ranges(path: Path, samples: Sequence[Floats], batch: int, spec: QuantSpec) -> Ranges:
    """Activation tensor name -> (low <= 0, high >= 0), by `spec.calibration`.

    `samples`: for each input, float32 of shape (n, *model's own input). Raises `InvalidInput` when there is
    no sample, one is not finite, or its shape is not the model's.
    """
    if spec.calibration not in {"minmax", *METHODS}:
        raise unknown("calibration", spec.calibration, ("minmax", *METHODS))
    seen = _minmax(path, samples, batch)
    if spec.calibration == "minmax":
        return seen
    return {name: clip_range(found, spec) for name, found in _histograms(path, samples, batch, seen).items()}


def _minmax(path: Path, samples: Sequence[Floats], batch: int) -> Ranges:
    """Widened to hold 0, as every range is: a quantized 0 must be exact."""
    found: Ranges = {}
    for values in _activations(path, samples, batch):
        for name, array in values.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (float(np.minimum(low, array.min())), float(np.maximum(high, array.max())))
    wrong = sorted(name for name, pair in found.items() if not np.isfinite(pair).all())
    if wrong:
        raise InvalidInput(f"calibration of {path.name}: {wrong[0]!r} is not finite on the calibration samples")
    return found


def _histograms(path: Path, samples: Sequence[Floats], batch: int, seen: Ranges) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS) for name in seen}
    for values in _activations(path, samples, batch):
        for name, array in values.items():
            counts[name] += count(array, *seen[name])
    return {name: Histogram(low=low, high=high, counts=counts[name]) for name, (low, high) in seen.items()}


def _activations(path: Path, samples: Sequence[Floats], batch: int) -> Iterator[Mapping[str, Floats]]:
    """Every float activation, inputs and outputs included, batch after batch; a last part batch repeats its last sample.

    A max pool pads with minus infinity, which is not a value: a padded tensor gets the range of the unpadded one.
    """
    interpreter = open_plain(path, keep_all=True)
    graph = describe(interpreter)
    numbers = {*graph.inputs, *(number for operator in graph.operators for number in operator.outputs)}
    wanted = sorted(number for number in numbers if graph.tensors[number].dtype == "float32")
    padded = {operator.outputs[0]: operator.inputs[0] for operator in graph.operators if operator.kind == "PADV2"}
    total = len(samples[0]) if samples else 0
    if not total:
        raise InvalidInput(f"calibration of {path.name}: there are no samples")
    if len(samples) != len(graph.inputs):
        raise InvalidInput(f"calibration of {path.name}: arrays for {len(samples)} of {len(graph.inputs)} inputs")
    for start in range(0, total, batch):
        rows = np.minimum(np.arange(start, start + batch), total - 1)
        for number, array in zip(graph.inputs, samples, strict=True):
            if (batch, *array.shape[1:]) != graph.tensors[number].shape:
                raise InvalidInput(
                    f"calibration of {path.name}: samples of shape {array.shape[1:]}, "
                    f"the model takes {graph.tensors[number].shape[1:]}"
                )
            interpreter.set_tensor(number, np.ascontiguousarray(array[rows], dtype=graph.tensors[number].dtype))
        interpreter.invoke()
        arrays = {number: interpreter.get_tensor(number) for number in wanted}
        for out, entered in padded.items():
            if out in arrays and not np.isfinite(arrays[out]).all():
                arrays[out] = arrays[entered]
        yield {graph.tensors[number].name: array for number, array in arrays.items() if array.size}
