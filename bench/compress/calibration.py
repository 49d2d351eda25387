"""Calibration samples of static quantization: of the training set, of a file, or random inputs where they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cache import find_or_make, key
from bench.compress.interface import Quantizer
from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.formats.npz_file import read_npz, write_npz
from bench.types import Json, Recipe, TensorSpec

Array = NDArray[Any]
SAMPLES = "samples.npz"
POOL = 512
"""How many samples of the training set a step may look at (`Context.calibration`)."""
STREAM = 1
"""Second word of the seed of random inputs. Inputs to judge with are drawn from [seed, position of the input] and
further words, and NumPy fills missing words with 0: without it, an input would be judged on what it was calibrated on."""
RANDOM = "int8 ranges come from random inputs, not from data"
REMEDY = (
    "name a data set that fits with --dataset, or give --calibrate FILE.npz (arrays by input name, samples first), or "
    "--calibrate random, whose cells are untrusted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOn:
    """What the user asked to calibrate on: a file, random inputs, or neither, which is the data set."""

    file: Path | None = None
    random: bool = False


FROM_DATA = CalibrateOn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """An .npz of arrays by input name in the cache, what they are in words, and why ranges from them are not believed.

    `file` is None, and `source` empty, where nothing is calibrated.
    """

    file: Path | None = None
    source: str = ""
    distrust: tuple[str, ...] = ()


NO_SAMPLES = Samples()


def parse_calibrate(text: str) -> CalibrateOn:
    """Of --calibrate or a suite's `calibrate`; "" is the data set. Raises `InvalidInput` for any other text."""
    if not text:
        return FROM_DATA
    if text == "random":
        return CalibrateOn(random=True)
    if not text.endswith(".npz"):
        raise InvalidInput(f"--calibrate {text}: wanted 'random', or a file that ends in .npz")
    if not Path(text).is_file():
        raise InvalidInput(f"--calibrate: file {text} does not exist")
    return CalibrateOn(file=Path(text))


def calibrates(recipe: Recipe) -> bool:
    """Whether a step of the recipe takes its ranges from what `CalibrateOn` names."""
    return any(isinstance(step, Quantizer) and step.spec().kind == "static" for step in recipe.steps)


def write_samples(
    inputs: tuple[TensorSpec, ...], samples: int, data: Dataset | None, on: CalibrateOn, *, cache: Path, seed: int
) -> Samples:
    """At most `samples` inputs: a seeded choice of the training set or of a file, or random ones.

    Raises:
        Unsupported: no data set fits and nothing else was asked for; a file that does not fit the model.
        InvalidInput: a damaged file, or one that holds samples of the test set, which judges the result.

    """
    if on.file is not None:
        arrays, source = _of_file(on.file, inputs, samples, data, seed)
        return Samples(file=_keep(arrays, cache), source=source)
    if on.random:
        generator = np.random.default_rng([seed, 0, STREAM])
        arrays = {item.name: _random_inputs(generator, item, samples) for item in inputs}
        return Samples(file=_keep(arrays, cache), source=f"{samples} random inputs, seed {seed}", distrust=(RANDOM,))
    if unfit := misfit(inputs, data):
        named = f"data set {data.name}: " if data else ""
        raise Unsupported(f"static int8 has nothing to calibrate on ({named}{unfit}): {REMEDY}")
    assert data is not None
    (chosen,) = drawn(data, samples, seed)
    source = f"{len(chosen)} samples of the training set of {data.name}, seed {seed}"
    return Samples(file=_keep({inputs[0].name: chosen}, cache), source=source)


def pool(data: Dataset | None, seed: int) -> tuple[Array, ...] | None:
    """Up to `POOL` samples of the training set, an array for each input, a seeded choice; None without a data set."""
    return None if data is None else drawn(data, POOL, seed)


def drawn(data: Dataset, samples: int, seed: int) -> tuple[Array, ...]:
    """Up to `samples` inputs of the training set, a seeded choice. A larger number begins with the same inputs."""
    return data.train.inputs(_choose(len(data.train), samples, seed))


def _choose(available: int, samples: int, seed: int) -> Array:
    return np.random.default_rng(seed).permutation(available)[:samples]


def _of_file(
    file: Path, inputs: tuple[TensorSpec, ...], samples: int, data: Dataset | None, seed: int
) -> tuple[dict[str, Array], str]:
    arrays = read_npz(file, [item.name for item in inputs])
    for item in inputs:
        _check_array(f"{file}: {item.name}", arrays[item.name], item)
    sizes = {name: len(array) for name, array in arrays.items()}
    available = next(iter(sizes.values()))
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InvalidInput(f"{file}: {said} samples; every input needs as many")
    chosen = _choose(available, samples, seed)
    picked = {item.name: arrays[item.name][chosen].astype(item.dtype, copy=False) for item in inputs}
    if data is not None and (known := _count_known(picked, data)):
        raise InvalidInput(
            f"{file}: {known} of {len(chosen)} samples are in the test set of {data.name}, which judges the result: "
            "calibrate on others"
        )
    return picked, f"{len(chosen)} of {available} samples of {file.name}, seed {seed}"


def _check_array(place: str, array: Array, spec: TensorSpec) -> None:
    """Raises `Unsupported` for another shape or kind of number than the input's, `InvalidInput` for NaN or no sample."""
    if not array.ndim or not len(array):
        raise InvalidInput(f"{place} has shape {array.shape}; wanted at least one sample, samples first")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(f"{place} holds NaN or infinity")
    if array.dtype.kind != np.dtype(spec.dtype).kind or not _matches(spec.shape[1:], array.shape[1:]):
        needs = ", ".join("any" if size == -1 else str(size) for size in spec.shape[1:])
        raise Unsupported(
            f"{place} has {array.dtype} {array.shape[1:]} a sample, the model takes {spec.dtype} ({needs})"
        )


def _count_known(picked: Mapping[str, Array], data: Dataset) -> int:
    """How many samples are in the test set. A model with several inputs, or of another shape, is not judged on it."""
    arrays = list(picked.values())
    if len(arrays) != 1 or arrays[0].shape[1:] != data.input_shape:
        return 0
    tested = {row.tobytes() for row in np.ascontiguousarray(data.test.inputs(slice(None))[0], dtype=np.float32)}
    return sum(row.tobytes() in tested for row in np.ascontiguousarray(arrays[0], dtype=np.float32))


def misfit(inputs: tuple[TensorSpec, ...], data: Dataset | None, *, any_type: bool = False) -> str:
    """Why the data set cannot be the model's inputs; "" where it can.

    `any_type`: the runtime converts floats to the file's type, so the type need not match.
    """
    if data is None:
        return "no data set is named"
    if len(inputs) != 1:
        return f"the model has {len(inputs)} inputs, the data set one"
    (wanted,), given = inputs, data.sample[0].dtype
    typed = any_type or np.dtype(wanted.dtype) == given
    if not typed or not _matches(wanted.shape[1:], data.input_shape):
        needs = ", ".join("any" if size == -1 else str(size) for size in wanted.shape[1:])
        return f"the model takes {wanted.dtype} ({needs}), the data set has {given} {data.input_shape}"
    return ""


def _matches(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(wanted) == len(given) and all(size in (-1, have) for size, have in zip(wanted, given, strict=True))


def _random_inputs(generator: np.random.Generator, spec: TensorSpec, samples: int) -> Array:
    """Floats uniform in 0..1; whole numbers 0 and 1, which are valid as index and as mask. Free sizes become 1."""
    if np.dtype(spec.dtype).kind not in "fiub":
        raise Unsupported(f"input {spec.name!r} is not numeric ({spec.dtype}): nothing can be drawn to calibrate on")
    shape = (samples, *(max(1, size) for size in spec.shape[1:]))
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.random(shape, dtype=np.float32).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def _keep(arrays: Mapping[str, Array], cache: Path) -> Path:
    """The arrays in the cache, named by names, types, shapes and values."""

    def write(folder: Path) -> Mapping[str, Json]:
        write_npz(folder / SAMPLES, arrays)
        return {}

    said = {name: [str(value.dtype), list(value.shape)] for name, value in arrays.items()}
    values = {name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest() for name, value in arrays.items()}
    return find_or_make(cache, "calibration", key(arrays=said, values=values), write).folder / SAMPLES
