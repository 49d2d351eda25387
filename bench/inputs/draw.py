"""Inputs drawn where there are no others: by seed and position, from the numbers that the graph takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import Unsupported
from bench.types import TensorSpec

Array = NDArray[Any]
SAMPLES = 16
"""How many inputs are drawn to judge outputs with."""
CALIBRATION = (1,)
"""Further words of the seed of calibration inputs. Inputs to judge with are drawn from [seed, position of the input],
and NumPy fills missing words with 0: without it, an input would be judged on what it was calibrated on."""
WITHOUT_BOUND = 127
"""Whole numbers are drawn from 0 to this where the graph does not say which it takes."""


def draw_inputs(
    specs: Sequence[TensorSpec], samples: int, seed: int, *, stream: Sequence[int] = (), zeros: Collection[str] = ()
) -> tuple[Array, ...]:
    """One array (samples, *sample shape) for each input.

    Floats are uniform in 0..1. Whole numbers are those of `TensorSpec.integers`. A mask is ones, then zeros, of a drawn
    length along its last axis; the first sample is all ones. An input without a batch axis beside inputs that have one
    has one value for all samples. `zeros`: inputs that begin at 0 (a state that is fed back).
    Raises `Unsupported` for an input that is not numeric.
    """
    batched = any(spec.axis is not None for spec in specs)
    drawn = []
    for position, spec in enumerate(specs):
        kind = np.dtype(spec.dtype).kind
        if kind not in "fiub":
            raise Unsupported(
                f"input {spec.name!r} is not numeric ({name_dtype(spec)}): nothing can be drawn for it; export the "
                "network with what comes after this input's own conversion"
            )
        shared = batched and spec.axis is None
        generator = np.random.default_rng([seed, position, *stream])
        shape = (1 if shared else samples, *spec.sample_shape)
        values = np.zeros(shape, spec.dtype) if spec.name in zeros else _draw(generator, spec, shape)
        drawn.append(np.repeat(values, samples, axis=0) if shared else values)
    return tuple(drawn)


def _draw(generator: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(spec.dtype)
    if spec.is_mask:
        return _draw_mask(generator, shape).astype(kind)
    if kind.kind == "f":
        return generator.random(shape, dtype=np.float32).astype(kind)
    low, high = (0, 1) if kind.kind == "b" else spec.integers or (0, min(WITHOUT_BOUND, np.iinfo(kind).max))
    return generator.integers(low, high + 1, shape).astype(kind)


def _draw_mask(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Ones up to a drawn length of at least 1, and zeros behind."""
    length = shape[-1] if len(shape) > 1 else 1
    lengths = generator.integers(1, length + 1, (shape[0], *[1] * (len(shape) - 1)))
    lengths[:1] = length
    ones: Array = np.arange(length) < lengths if len(shape) > 1 else np.ones(shape, bool)
    return np.broadcast_to(ones, shape)


def describe_drawn(specs: Sequence[TensorSpec], zeros: Collection[str] = ()) -> str:
    """What was drawn, input by input."""
    return ", ".join(f"{spec.name}: {'0 at first' if spec.name in zeros else describe_values(spec)}" for spec in specs)


def describe_values(spec: TensorSpec) -> str:
    """Which values are drawn for an input."""
    kind = np.dtype(spec.dtype)
    if spec.is_mask:
        return "mask of ones, then zeros"
    if kind.kind not in "fiub":
        return f"none can be drawn ({name_dtype(spec)})"
    if kind.kind == "f":
        return "0..1"
    if kind.kind == "b":
        return "false or true"
    low, high = spec.integers or (0, min(WITHOUT_BOUND, np.iinfo(kind).max))
    return f"always {low}" if low == high else f"whole numbers {low}..{high}"


def warn_of_unbounded(specs: Sequence[TensorSpec], zeros: Collection[str] = ()) -> tuple[str, ...]:
    """A sentence for each input of whole numbers for which the graph gives no bound."""
    free = [spec for spec in specs if np.dtype(spec.dtype).kind in "iu" and spec.integers is None]
    return tuple(
        f"integers of input {spec.name!r} drawn from 0..{min(WITHOUT_BOUND, np.iinfo(spec.dtype).max)}: the graph "
        "gives no bound; --input-data gives real ones"
        for spec in free
        if spec.name not in zeros
    )


def name_dtype(spec: TensorSpec) -> str:
    """A type in words: numpy calls text an object."""
    return "text" if np.dtype(spec.dtype).kind in "OSU" else spec.dtype
