"""Whether what is fed lies where the quantized inputs of a .tflite file can hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.device.stored import Samples
from bench.formats.tflite_file import read_tflite
from bench.formats.tflite_inputs import Held, held_ranges
from bench.types import TensorSpec

LOOKED_AT = 512
"""Samples whose range is taken."""
CUT = 0.01
"""Share of values outside of an input's range up to which nothing is said: calibration cuts a few."""
USED = 0.6
"""Share of an input's range that must be used. Pixels from 0 to 1 use half of a range from -1 to 1."""
REMEDY = (
    "the file may be made for inputs of another range: give them in that range, as float32 (bytes are divided by 255)"
)


def describe_ranges(file: Path, specs: Sequence[TensorSpec], inputs: Sequence[Samples]) -> tuple[str, ...]:
    """What is cut off, and which inputs are fed only a small part of what they can hold: the file, its inputs and samples."""
    held = held_ranges(read_tflite(file))
    found = zip(specs, held, (array[:LOOKED_AT] for array in inputs), strict=True)
    return tuple(filter(None, (_describe(spec.name, one, array) for spec, one, array in found if one and array.size)))


def _describe(name: str, held: Held, array: np.ndarray) -> str:
    low, high = float(array.min()), float(array.max())
    said = f"quantized input {name!r} holds {held.low:.4g} to {held.high:.4g}, and is fed {low:.4g} to {high:.4g}"
    cut = float(((array < held.low - held.step) | (array > held.high + held.step)).mean())
    if cut > CUT:
        return f"{said}: {cut:.0%} of the values are cut off; {REMEDY}"
    span = (
        max(high, -low) / max(held.high, -held.low)
        if held.symmetric
        else (max(high, 0) - min(low, 0)) / (held.high - held.low)
    )
    return f"{said}, {span:.1%} of it; {REMEDY}" if low < high and span < USED else ""
