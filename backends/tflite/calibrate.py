"""Ranges of a float .tflite's activations over calibration samples: min-max, percentile, entropy or mean square error.

The library's own calibration is a moving average of min and max, which forgets what it saw;
these are the rules that ONNX Runtime and TensorRT follow, so that one recipe means one thing.
Every rule but min-max looks for a threshold t on |x| and clips the seen range to [-t, t].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.tflite.graph import describe, open_plain
from bench.errors import InvalidInput

Ranges = dict[str, tuple[float, float]]
Floats = NDArray[np.float32]
Histogram = NDArray[np.float64]

BINS = 2048
LEVELS = 128
"""Magnitudes an 8-bit integer can tell apart."""


def ranges(path: Path, samples: Sequence[Floats], batch: int, method: str, percentile: float) -> Ranges:
    """Activation tensor name -> (low, high). `samples`: for each input, float32 of shape (n, *model's own input).

    Raises `InvalidInput` when there is no sample, one is not finite, or its shape is not the model's.
    """
    seen = _minmax(path, samples, batch)
    if method == "minmax":
        return seen
    rules: dict[str, Callable[[Histogram, float], float]] = {
        "percentile": lambda counts, top: _percentile(counts, top, percentile),
        "entropy": _entropy,
        "mse": _mse,
    }
    if method not in rules:
        raise InvalidInput(f"calibration {method!r} is none of minmax, {', '.join(rules)}")
    clipped: Ranges = {}
    for name, counts in _histograms(path, samples, batch, seen).items():
        low, high = seen[name]
        top = max(-low, high)
        threshold = rules[method](counts, top) if top > 0 else 0.0
        clipped[name] = (max(low, -threshold), min(high, threshold))
    return clipped


def _minmax(path: Path, samples: Sequence[Floats], batch: int) -> Ranges:
    found: Ranges = {}
    for values in _activations(path, samples, batch):
        for name, array in values.items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(array.min())), max(high, float(array.max())))
    wrong = sorted(name for name, pair in found.items() if not np.isfinite(pair).all())
    if wrong:
        raise InvalidInput(f"calibration of {path.name}: {wrong[0]!r} is not finite on the calibration samples")
    return found


def _histograms(path: Path, samples: Sequence[Floats], batch: int, seen: Ranges) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS) for name in seen}
    for values in _activations(path, samples, batch):
        for name, array in values.items():
            top = max(-seen[name][0], seen[name][1])
            if top > 0:
                counts[name] += np.histogram(np.abs(array), bins=BINS, range=(0.0, top))[0]
    return counts


def _activations(path: Path, samples: Sequence[Floats], batch: int) -> Iterator[Mapping[str, Floats]]:
    """Every float activation, inputs and outputs included, batch after batch; a last part batch repeats its last sample."""
    interpreter = open_plain(path, keep_all=True)
    graph = describe(interpreter)
    numbers = {*graph.inputs, *(number for operator in graph.operators for number in operator.outputs)}
    wanted = sorted(number for number in numbers if graph.tensors[number].dtype == "float32")
    count = len(samples[0]) if samples else 0
    if not count:
        raise InvalidInput(f"calibration of {path.name}: there is no sample")
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        for number, array in zip(graph.inputs, samples, strict=True):
            if (batch, *array.shape[1:]) != graph.tensors[number].shape:
                raise InvalidInput(
                    f"calibration of {path.name}: samples of shape {array.shape[1:]}, "
                    f"the model takes {graph.tensors[number].shape[1:]}"
                )
            interpreter.set_tensor(number, np.ascontiguousarray(array[rows], dtype=np.float32))
        interpreter.invoke()
        arrays = {number: interpreter.get_tensor(number) for number in wanted}
        yield {graph.tensors[number].name: array for number, array in arrays.items() if array.size}


def _percentile(counts: Histogram, top: float, percentile: float) -> float:
    """The |x| that `percentile` percent of all values do not exceed."""
    cumulated = np.cumsum(counts) / counts.sum()
    return float((np.searchsorted(cumulated, percentile / 100) + 1) / BINS * top)


def _mse(counts: Histogram, top: float) -> float:
    """The threshold whose 8-bit grid has the least mean square error: rounding, step^2 / 12, plus clipping."""
    centres = (np.arange(BINS) + 0.5) / BINS * top
    thresholds = np.linspace(0.05, 1.0, 191) * top
    errors = [
        float(
            (counts * np.where(centres > limit, (centres - limit) ** 2, (limit / (LEVELS - 1)) ** 2 / 12)).sum(),
        )
        for limit in thresholds
    ]
    return float(thresholds[int(np.argmin(errors))])


def _entropy(counts: Histogram, top: float) -> float:
    """The threshold whose clipped distribution loses the least information when it is quantized.

    Migacz 2017, 8-bit Inference with TensorRT: Kullback-Leibler divergence between the clipped
    histogram (its tail added to the last bin) and the same spread over `LEVELS` levels. What a ReLU
    made zero is exact at any scale, so the bin of zero gets its neighbour's count, as in NVIDIA's
    pytorch-quantization.
    """
    counts = np.concatenate([counts[1:2], counts[1:]])
    best, chosen = np.inf, BINS
    for bins in range(LEVELS, BINS + 1, LEVELS // 8):
        kept = counts[:bins]
        reference = kept.copy()
        reference[-1] += counts[bins:].sum()
        level = np.arange(bins) * LEVELS // bins
        filled = kept > 0
        totals = np.bincount(level, weights=kept, minlength=LEVELS)
        members = np.bincount(level, weights=filled, minlength=LEVELS)
        spread = np.where(filled, totals[level] / np.maximum(members[level], 1), 0.0)
        divergence = _divergence(reference, spread)
        if divergence < best:
            best, chosen = divergence, bins
    return chosen / BINS * top


def _divergence(reference: Histogram, candidate: Histogram) -> float:
    """KL(reference || candidate) in nats; an event the candidate excludes is given a small share of it."""
    p = reference / reference.sum()
    total = candidate.sum()
    if total == 0:
        return float("inf")
    q = np.maximum(candidate / total, 1e-9)
    happened = p > 0
    return float((p[happened] * np.log(p[happened] / q[happened])).sum())
