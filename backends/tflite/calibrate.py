"""Ranges of a float .tflite's activations over calibration samples, by the rules that ONNX runtimes follow too.

The library's own calibration is a moving average of min and max, which forgets what it saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.calibration.clip import BINS, METHODS, Histogram, clip_range, count
from backends.tflite.graph import describe, name_outputs, open_plain
from bench.device.inputs import make_feed
from bench.errors import InvalidInput, unknown
from bench.types import QuantSpec, TensorSpec

Ranges = dict[str, tuple[float, float]]
Floats = NDArray[np.float32]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """Samples, one array for each input, samples first. `axes`: batch axis of each input, first where it is empty.

    `feedback`: (output's name, place of an input): what one batch gives is what the next takes.
    """

    arrays: Sequence[Array]
    batch: int = 1
    axes: Sequence[int | None] = ()
    feedback: Sequence[tuple[str, int]] = ()


def ranges(path: Path, fed: Fed, spec: QuantSpec) -> Ranges:
    """Activation tensor name -> (low <= 0, high >= 0), by `spec.calibration`.

    Raises `InvalidInput` when there is no sample, one is not finite, or its shape is not the model's.
    """
    if spec.calibration not in {"minmax", *METHODS}:
        raise unknown("calibration", spec.calibration, ("minmax", *METHODS))
    seen = _minmax(path, fed)
    if spec.calibration == "minmax":
        return seen
    return {name: clip_range(found, spec) for name, found in _histograms(path, fed, seen).items()}


def _minmax(path: Path, fed: Fed) -> Ranges:
    """Widened to hold 0, as every range is: a quantized 0 must be exact."""
    found: Ranges = {}
    for values in _activations(path, fed):
        for name, array in values.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (float(np.minimum(low, array.min())), float(np.maximum(high, array.max())))
    wrong = sorted(name for name, pair in found.items() if not np.isfinite(pair).all())
    if wrong:
        raise InvalidInput(f"calibration of {path.name}: {wrong[0]!r} is not finite on the calibration samples")
    return found


def _histograms(path: Path, fed: Fed, seen: Ranges) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS) for name in seen}
    for values in _activations(path, fed):
        for name, array in values.items():
            counts[name] += count(array, *seen[name])
    return {name: Histogram(low=low, high=high, counts=counts[name]) for name, (low, high) in seen.items()}


def _activations(path: Path, fed: Fed) -> Iterator[Mapping[str, Floats]]:
    """Every float activation, inputs and outputs included, batch after batch; a last part batch repeats its last sample.

    A max pool pads with minus infinity, which is not a value: a padded tensor gets the range of the unpadded one.
    """
    interpreter = open_plain(path, keep_all=True)
    graph = describe(interpreter)
    numbers = {*graph.inputs, *(number for operator in graph.operators for number in operator.outputs)}
    wanted = sorted(number for number in numbers if graph.tensors[number].dtype == "float32")
    padded = {operator.outputs[0]: operator.inputs[0] for operator in graph.operators if operator.kind == "PADV2"}
    total = len(fed.arrays[0]) if fed.arrays else 0
    if not total:
        raise InvalidInput(f"calibration of {path.name}: there are no samples")
    if len(fed.arrays) != len(graph.inputs):
        raise InvalidInput(f"calibration of {path.name}: arrays for {len(fed.arrays)} of {len(graph.inputs)} inputs")
    axes = fed.axes or [0] * len(graph.inputs)
    specs = [
        TensorSpec(name=str(number), shape=tensor.shape, dtype=tensor.dtype, batch_axis=axis)
        for number, tensor, axis in zip(graph.inputs, map(graph.tensors.get, graph.inputs), axes, strict=True)
        if tensor is not None
    ]
    returned = {str(graph.inputs[place]): name_outputs(interpreter)[output] for output, place in fed.feedback}
    state: dict[str, Array] = {}
    for start in range(0, total, fed.batch):
        for name, array in {**_make_feed(path, fed, specs, start), **state}.items():
            interpreter.set_tensor(int(name), array)
        interpreter.reset_all_variables()
        interpreter.invoke()
        state = {name: interpreter.get_tensor(number) for name, number in returned.items()}
        arrays = {number: interpreter.get_tensor(number) for number in wanted}
        for out, entered in padded.items():
            if out in arrays and not np.isfinite(arrays[out]).all():
                arrays[out] = arrays[entered]
        yield {graph.tensors[number].name: array for number, array in arrays.items() if array.size}


def _make_feed(path: Path, fed: Fed, specs: Sequence[TensorSpec], start: int) -> dict[str, Array]:
    try:
        return make_feed(fed.arrays, specs, start)
    except InvalidInput as error:
        raise InvalidInput(f"calibration of {path.name}: {error}") from None
