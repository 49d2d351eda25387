"""Calibration samples of static quantization: of the training set, of a file, or random inputs where they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cache import find_or_make, key
from bench.compress.interface import Context, Quantizer
from bench.compress.notes import LAYOUT
from bench.data.datasets import Dataset
from bench.device.stored import write_npz
from bench.errors import InvalidInput, Unsupported
from bench.inputs.draw import CALIBRATION, draw_inputs
from bench.inputs.given import read_given
from bench.inputs.split import split_given
from bench.types import Json, Recipe, TensorSpec

Array = NDArray[Any]
SAMPLES = "samples.npz"
CALIBRATED = ("static", "fixed")
"""Kinds of quantization whose ranges come from samples."""
POOL = 512
"""How many samples of the training set a step may look at (`Context.calibration`)."""
RANDOM = "int8 ranges come from random inputs, not from data"
REMEDY = (
    "name a data set that fits with --dataset, or give --input-data or --calibrate FILE.npz (arrays by input name, "
    "samples first), or --calibrate random, whose cells are untrusted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOn:
    """What the user asked to calibrate on: a file, random inputs, or neither, which is the data set.

    `given`: the file that also judges the result: samples are set apart (`bench.inputs.split`). `judges`: another file, which
    judges the result: no sample of `file` may be in it.
    """

    file: Path | None = None
    random: bool = False
    given: Path | None = None
    judges: Path | None = None


FROM_DATA = CalibrateOn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """An .npz of arrays by input name in the cache, what they are in words, and why ranges from them are not believed.

    `notes`: as in `Compressed`. `file` is None, and `source` empty, where nothing is calibrated.
    """

    file: Path | None = None
    source: str = ""
    distrust: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


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
    return any(isinstance(step, Quantizer) and step.spec().kind in CALIBRATED for step in recipe.steps)


def write_samples(
    inputs: tuple[TensorSpec, ...],
    samples: int,
    data: Dataset | None,
    on: CalibrateOn,
    *,
    cache: Path,
    seed: int,
    state: Sequence[str] = (),
) -> Samples:
    """At most `samples` inputs: a seeded choice of the training set or of a file, or random ones.

    `state`: inputs that begin at 0, because an output is fed back to them.

    Raises:
        Unsupported: no data set fits and nothing else was asked for; a file that does not fit the model.
        InvalidInput: a damaged file, or one that holds samples of the test set or file that judges the result.

    """
    names = [item.name for item in inputs]
    if on.file is not None:
        arrays, source, notes = _of_file(on.file, inputs, samples, data, seed, state)
        if on.judges is not None:
            _refuse_judges(on.file, list(arrays.values()), on.judges, inputs, state)
        return Samples(file=_keep(arrays, cache), source=source, notes={LAYOUT: "; ".join(notes)} if notes else {})
    if on.random:
        drawn_inputs = draw_inputs(inputs, samples, seed, stream=CALIBRATION, zeros=state)
        arrays = dict(zip(names, drawn_inputs, strict=True))
        return Samples(file=_keep(arrays, cache), source=f"{samples} random inputs, seed {seed}", distrust=(RANDOM,))
    if on.given is not None:
        arrays, source = _of_given(on.given, inputs, samples, seed, state)
        return Samples(file=_keep(arrays, cache), source=source)
    if unfit := misfit(inputs, data):
        named = f"data set {data.name}: " if data else ""
        raise Unsupported(f"there is nothing to calibrate on ({named}{unfit}): {REMEDY}")
    assert data is not None
    chosen = drawn(data, samples, seed)
    source = f"{len(chosen[0])} samples of the training set of {data.name}, seed {seed}"
    return Samples(file=_keep({one.name: x for one, x in zip(inputs, chosen, strict=True)}, cache), source=source)


def pool(data: Dataset | None, seed: int) -> tuple[Array, ...] | None:
    """Up to `POOL` samples of the training set, an array for each input, a seeded choice; None without a data set."""
    return None if data is None else drawn(data, POOL, seed)


def scored_data(step: object, context: Context) -> Dataset:
    """The data set. Raises `Unsupported`, naming the step, for a model without one."""
    if context.data is None:
        raise Unsupported(f"{step!r} looks at the score, and this model has no data set; name one with --dataset")
    return context.data


def divide(data: Dataset, samples: int, held_out: int, seed: int) -> tuple[Array, Array]:
    """Numbers of training samples that set ranges, and of others that judge: the first and the last of a seeded order, at
    most half each."""
    order = _choose(len(data.train), len(data.train), seed)
    half = len(order) // 2
    return order[: min(samples, len(order) - half)], order[-min(held_out, half) :]


def drawn(data: Dataset, samples: int, seed: int) -> tuple[Array, ...]:
    """Up to `samples` inputs of the training set, a seeded choice. A larger number begins with the same inputs."""
    return data.train.inputs(_choose(len(data.train), samples, seed))


def _choose(available: int, samples: int, seed: int) -> Array:
    return np.random.default_rng(seed).permutation(available)[:samples]


def _of_file(
    file: Path, inputs: tuple[TensorSpec, ...], samples: int, data: Dataset | None, seed: int, state: Sequence[str]
) -> tuple[dict[str, Array], str, tuple[str, ...]]:
    """Arrays by name, what they are, and what was changed. Samples that are fed back stay in their order."""
    taken = read_given(file, inputs, optional=state, others=True)
    arrays = dict(zip([item.name for item in inputs], taken.arrays, strict=True))
    available = len(next(iter(arrays.values())))
    chosen = np.arange(min(samples, available)) if state else _choose(available, samples, seed)
    picked = {name: array[chosen] for name, array in arrays.items()}
    if data is not None and (known := _count_known(picked, data)):
        raise InvalidInput(
            f"{file}: {known} of {len(chosen)} samples are in the test set of {data.name}, which judges the result: "
            "calibrate on others"
        )
    return picked, f"{len(chosen)} of {available} samples of {file.name}, seed {seed}", taken.notes


def _refuse_judges(
    file: Path, picked: Sequence[Array], judges: Path, inputs: tuple[TensorSpec, ...], state: Sequence[str]
) -> None:
    """Raises `InvalidInput` where samples to calibrate on are in the file that judges."""
    known = set(_rows(read_given(judges, inputs, optional=state).arrays))
    count = sum(row in known for row in _rows(picked))
    if count:
        raise InvalidInput(
            f"{file}: {count} of {len(picked[0])} samples are in {judges}, which judges the result: calibrate on others, or "
            "leave --calibrate out: then a half of those calibrates and the other judges"
        )


def _rows(arrays: Sequence[Array]) -> list[bytes]:
    """The content of each sample, all its inputs."""
    return [b"".join(np.ascontiguousarray(one).tobytes() for one in sample) for sample in zip(*arrays, strict=True)]


def _of_given(
    file: Path, inputs: tuple[TensorSpec, ...], samples: int, seed: int, state: Sequence[str]
) -> tuple[dict[str, Array], str]:
    """Samples of a file whose others judge the result."""
    given = split_given(file, inputs, seed=seed, calibrates=True, state=state)
    kept = given.calibration(samples)
    if not len(kept[0]):
        raise Unsupported(
            f"{file} has too few samples to calibrate on some and judge on others ({given.count}): give at least 2, or "
            "name others with --calibrate"
        )
    arrays = dict(zip([item.name for item in inputs], kept, strict=True))
    return arrays, f"{len(kept[0])} of {given.count} samples of {file.name}, which do not judge, seed {seed}"


def _count_known(picked: Mapping[str, Array], data: Dataset) -> int:
    """How many samples are in the test set. A model with several inputs, or of another shape, is not judged on it."""
    arrays = list(picked.values())
    if len(arrays) != 1 or arrays[0].shape[1:] != data.input_shape:
        return 0
    rows = _rows([arrays[0].astype(np.float32)])
    asked, known = set(rows), set()
    for chunk in data.test.chunks():
        known |= asked.intersection(_rows([data.test.inputs(chunk)[0].astype(np.float32)]))
    return sum(row in known for row in rows)


def misfit(inputs: tuple[TensorSpec, ...], data: Dataset | None, *, any_type: bool = False) -> str:
    """Why the data set cannot be the model's inputs; "" where it can.

    `any_type`: the runtime converts floats to the file's type, so the type need not match.
    """
    if data is None:
        return "no data set is named"
    if len(inputs) != len(data.sample):
        return f"the model has {len(inputs)} inputs, the data set {len(data.sample)}"
    if why := _misnamed(tuple(one.name for one in inputs), data.input_names):
        return why
    for wanted, sample in zip(inputs, data.sample, strict=True):
        typed = any_type or np.dtype(wanted.dtype) == sample.dtype
        if not typed or not _matches(wanted.sample_shape, sample.shape[1:]):
            needs = ", ".join("any" if size == -1 else str(size) for size in wanted.sample_shape)
            has = f"the data set has {sample.dtype} {sample.shape[1:]}{_hint(wanted, sample)}"
            return f"the model takes {wanted.dtype} ({needs}), {has}"
    return ""


def _hint(wanted: TensorSpec, sample: Array) -> str:
    """What may make a sample (1, ...) that does not fit one that does."""
    if _matches(wanted.sample_shape, (1, *sample.shape[1:])):
        return ": give the images their one channel, as x[:, None] does"
    if (wanted.dtype, str(sample.dtype)) == ("uint8", "float32"):
        return ": bytes of a data set are divided by 255, and this file takes them whole: give them with --input-data"
    return ""


def _misnamed(wanted: tuple[str, ...], given: tuple[str, ...]) -> str:
    """Why names of a data set's inputs do not say which is which; "" where they do, or there are none. One has any name."""
    if not given or given == wanted or len(given) == 1:
        return ""
    if set(given) == set(wanted):
        return f"the model takes its inputs in the order {', '.join(wanted)}; keep this order in the data set"
    if all(name.isdecimal() for name in given) and sorted(given, key=int) == list(given):
        return ""
    return (
        f"the model takes the inputs {', '.join(wanted)}, the data set has {', '.join(given)}: name them alike, or "
        "number them in the order of the model's (in an .npz x_train.0, x_train.1)"
    )


def _matches(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(wanted) == len(given) and all(size in (-1, have) for size, have in zip(wanted, given, strict=True))


def _keep(arrays: Mapping[str, Array], cache: Path) -> Path:
    """The arrays in the cache, named by names, types, shapes and values."""

    def write(folder: Path) -> Mapping[str, Json]:
        write_npz(folder / SAMPLES, arrays)
        return {}

    said = {name: [str(value.dtype), list(value.shape)] for name, value in arrays.items()}
    values = {name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest() for name, value in arrays.items()}
    return find_or_make(cache, "calibration", key(arrays=said, values=values), write).folder / SAMPLES
