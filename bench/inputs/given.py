"""Samples of a user's file: `--input-data FILE.npz`, arrays by input name, first axis the samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import InvalidInput, Unsupported, unknown
from bench.formats.npz_file import list_npz, read_npz
from bench.inputs.layout import find_layout, fits_shape, turn
from bench.types import TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """`arrays`: one (samples, *sample shape) for each input, in the input's own type. `notes`: what was changed."""

    arrays: tuple[Array, ...]
    notes: tuple[str, ...] = ()


def read_given(
    file: Path, specs: Sequence[TensorSpec], *, optional: Collection[str] = (), others: bool = False
) -> Taken:
    """The samples of a file. Images are turned to the layout of their input where it is certain (`find_layout`).

    A model of one input takes an array of any name. An input without a batch axis beside inputs that have one may be
    given once, without the axis of samples. `optional`: inputs that begin at 0 where the file has none (a state that
    is fed back). `others`: the file may hold further arrays.

    Raises:
        InvalidInput: as `bench.formats.npz_file.read_npz`; an unknown or missing name; NaN or infinity; inputs of
            different numbers of samples.
        Unsupported: another shape than the input's; a type that cannot be converted without loss.

    """
    names = list_npz(file)
    found = read_npz(file, names)
    if len(specs) == len(names) == 1:
        found = {specs[0].name: found[names[0]]}
    known = [spec.name for spec in specs]
    for name in found:
        if name not in known and not others:
            raise unknown(f"input in {file}", name, known)
    missing = [name for name in known if name not in found and name not in optional]
    if missing:
        raise InvalidInput(f"{file}: no array for input {missing[0]!r}; it needs one for each of {', '.join(known)}")
    layouts = {
        spec.name: find_layout(spec.sample_shape, found[spec.name].shape[1:]) for spec in specs if spec.name in found
    }
    laid = {name: turn(found[name], layout) for name, layout in layouts.items()}
    arrays = {spec.name: _read_one(file, laid[spec.name], spec, specs) for spec in specs if spec.name in laid}
    notes = tuple(f"{file.name}: {name!r} is turned to {layout}" for name, layout in layouts.items() if layout)
    once = {spec.name for spec in specs if spec.name in found and _is_given_once(found[spec.name], spec, specs)}
    count = _count_samples(file, {name: array for name, array in arrays.items() if name not in once} or arrays)
    return Taken(arrays=tuple(_fill(arrays.get(spec.name), spec, count) for spec in specs), notes=notes)


def _read_one(file: Path, array: Array, spec: TensorSpec, specs: Sequence[TensorSpec]) -> Array:
    place = f"{file}: {spec.name!r}"
    if _is_given_once(array, spec, specs):
        array = array[None]
    if array.ndim and not len(array):
        raise InvalidInput(f"{place} has shape {array.shape}; wanted at least one sample, samples first")
    if not fits(array, spec):
        wanted = ", ".join(["samples", *("any" if size == -1 else str(size) for size in spec.sample_shape)])
        raise Unsupported(f"{place} has shape {array.shape}; wanted ({wanted})")
    return cast_exactly(array, spec, place)


def _is_given_once(array: Array, spec: TensorSpec, specs: Sequence[TensorSpec]) -> bool:
    """Whether the array is one value for all samples: only for an input without a batch axis beside others."""
    shared = spec.axis is None and any(other.axis is not None for other in specs)
    return shared and array.shape == spec.sample_shape


def fits(array: Array, spec: TensorSpec) -> bool:
    """Whether an array is samples of an input: at least one, each of the input's shape."""
    shape = array.shape[1:]
    return bool(array.ndim and len(array)) and fits_shape(spec.sample_shape, shape)


def cast_exactly(array: Array, spec: TensorSpec, place: str) -> Array:
    """The array in the input's type. Raises `InvalidInput` for NaN or infinity, `Unsupported` for a number that changes.

    Floats may be rounded to a narrower float; whole numbers must stay what they are. Whole numbers for an input of
    floats are refused: they are mostly raw pixels, which the network takes scaled.
    """
    kind = np.dtype(spec.dtype)
    if array.dtype.kind not in "fiub":
        raise InvalidInput(f"{place} holds {array.dtype}, not numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(f"{place} holds NaN or infinity")
    if kind.kind == "f" and array.dtype.kind in "iu":
        raise Unsupported(
            f"{place} holds {array.dtype}, the input takes {kind}: prepare it as the network was trained (scaled, "
            f"centred), and save it as {kind}"
        )
    with np.errstate(all="ignore"):
        cast = array.astype(kind, copy=False)
    exact = kind.kind == "f" and array.dtype.kind == "f"
    if not np.isfinite(cast).all() if exact else not np.array_equal(cast.astype(array.dtype), array):
        raise Unsupported(f"{place} holds {array.dtype} that {kind} cannot: the input is {kind}; save it in that type")
    return cast


def _count_samples(file: Path, arrays: Mapping[str, Array]) -> int:
    counts = {name: len(array) for name, array in arrays.items()}
    count = max(counts.values(), default=0)
    if any(size != count for size in counts.values()):
        said = ", ".join(f"{name} has {size}" for name, size in counts.items())
        raise InvalidInput(f"{file}: {said} samples; every input needs as many")
    return count


def _fill(array: Array | None, spec: TensorSpec, count: int) -> Array:
    """An array of `count` samples: zeros where there is none, repeated where one is given for all."""
    if array is None:
        return np.zeros((count, *spec.sample_shape), spec.dtype)
    return np.repeat(array, count, axis=0) if len(array) < count else array
