"""Data sets of a user's own function: `package.module:function` gives samples to train and to test with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.cache import find_or_make, key, sha256
from bench.data.arrays import Arrays
from bench.data.parts import Array, Choice
from bench.errors import InvalidInput
from bench.own_code import file_of, load_object, sources_of, users_code

PARTS = ("train", "test")
READ_TWICE = 16
"""How many samples of an object with an index are read twice to see that they stay the same."""
VALIDATION = "val"
"""A third part that a mapping may have: what a search chooses with."""
WANTED = "give (train, test) or {'train': ..., 'test': ..., 'val': ...}, each an iterable of (inputs, targets); val may be left out"


@dataclass(frozen=True, slots=True)
class Layout:
    """What each array of a sample is: the inputs, then the targets. `names`: of inputs that came as a dict."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]


class Column:
    """One array of every sample of an object with a length, read by index as it is asked for; used like an array."""

    def __init__(self, samples: Any, place: str, layout: Layout, number: int) -> None:
        self._samples, self._place, self._layout, self._number = samples, place, layout, number
        self.shape = (len(samples), *layout.shapes[number])
        self.dtype = np.dtype(layout.types[number])
        self.ndim, self.size = len(self.shape), prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Choice) -> Array:
        indices = np.arange(len(self))[chosen]
        found = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for row, index in enumerate(indices.tolist()):
            with users_code(f"sample {index} of {self._place} raised"):
                sample = self._samples[index]
            found[row] = _take(sample, self._place, index, self._layout)[self._number]
        return found


def read_own_set(text: str, cache: Path | None) -> Arrays:
    """The samples that the function gives, as arrays whose content stays on disk or with the user's object.

    Objects with `len` and `[index]` are read by index. Other iterables are written once to `cache`, by the source of
    the function's file and of the modules that it imports from its folder. Raises `InvalidInput` for what is not
    samples, for samples that change, and for errors of the function, naming its line.
    """
    function = load_object(text, "function")
    with users_code(f"{text} raised"):
        given = function()
    found, notes = {}, []
    for part, samples in _split(given, text).items():
        place = f"{text}: {part}"
        if hasattr(samples, "__len__") and hasattr(samples, "__getitem__"):
            found[part] = _by_index(samples, place)
        else:
            file = file_of(text, function)
            sources = sources_of(text, file) if file else []
            found[part] = _stored(samples, place, sources, cache)
            beside = f" and of {len(sources) - 1} modules it imports" if len(sources) > 1 else ""
            notes.append(
                f"{place} samples are kept by the content of {file}{beside}; remove {cache}/data where they change without it"
            )
    names, train = found["train"]
    test = _in_order(found, "test", text)
    val = _in_order(found, VALIDATION, text) if VALIDATION in found else None
    if val is not None:
        notes.append(f"{text}: a search chooses with val; nothing else uses it")
    several = len(train) > 2
    return Arrays(
        place=text,
        x_train=train[:-1],
        y_train=train[-1],
        x_test=test[:-1],
        y_test=test[-1],
        names=names or (tuple(str(number) for number in range(len(train) - 1)) if several else ()),
        named=bool(names),
        notes=tuple(notes),
        x_val=val[:-1] if val else (),
        y_val=val[-1] if val else None,
    )


def _in_order(
    found: Mapping[str, tuple[tuple[str, ...], tuple[Array, ...]]], part: str, text: str
) -> tuple[Array, ...]:
    """The arrays of a part, its inputs in the order of those to train with."""
    (names, train), (given, arrays) = found["train"], found[part]
    if sorted(names) != sorted(given) or len(train) != len(arrays):
        use = "test" if part == "test" else "choose"
        raise InvalidInput(f"{text}: inputs to train with are not those to {use} with; give both alike")
    return (*(arrays[given.index(name)] for name in names), arrays[-1]) if names else arrays


def _split(given: Any, text: str) -> dict[str, Any]:
    if isinstance(given, Mapping) and set(PARTS) <= set(given) <= {*PARTS, VALIDATION}:
        parts = {part: given[part] for part in (*PARTS, VALIDATION) if part in given}
    elif isinstance(given, tuple | list) and len(given) == 2:
        parts = dict(zip(PARTS, given, strict=True))
    else:
        raise InvalidInput(f"{text} returned {type(given).__name__}: {WANTED}")
    for part, samples in parts.items():
        readable = hasattr(samples, "__iter__") or (hasattr(samples, "__len__") and hasattr(samples, "__getitem__"))
        if isinstance(samples, Mapping | str | bytes) or not readable:
            raise InvalidInput(f"{text}: {part} is {type(samples).__name__}: {WANTED}")
        if hasattr(samples, "batch_size"):
            raise InvalidInput(f"{text}: {part} gives batches; return its samples, as the .dataset of a DataLoader")
    return parts


def _by_index(samples: Any, place: str) -> tuple[tuple[str, ...], tuple[Array, ...]]:
    with users_code(f"sample 0 of {place} raised"):
        first = samples[0] if len(samples) else None
    if first is None:
        raise InvalidInput(f"{place} has 0 samples; give at least one")
    layout = _layout(first, place)
    _refuse_random(samples, place, layout)
    columns = (Column(samples, place, layout, number) for number in range(len(layout.shapes)))
    return layout.names, tuple(cast("Array", column) for column in columns)


def _refuse_random(samples: Any, place: str, layout: Layout) -> None:
    """Raises `InvalidInput` for samples that are other ones when they are read again: the targets of one reading would go with
    the inputs of another, and no result could be found again."""
    for index in range(min(READ_TWICE, len(samples))):
        with users_code(f"sample {index} of {place} raised"):
            twice = samples[index], samples[index]
        first, again = (_take(sample, place, index, layout) for sample in twice)
        if not all(
            np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in zip(first, again, strict=True)
        ):
            raise InvalidInput(
                f"sample {index} of {place} differs when it is read again, and samples are read several times, their targets "
                "apart from their inputs: leave random augmentation out, or seed it by the sample's number"
            )


def _stored(
    samples: Iterable[Any], place: str, sources: list[Path], cache: Path | None
) -> tuple[tuple[str, ...], tuple[Array, ...]]:
    if not sources or cache is None:
        raise InvalidInput(f"{place} has no source file to keep its samples by; give an object with len and [index]")
    digests = [sha256(file) for file in sources]
    entry = find_or_make(
        cache, "data", key(place=place, sources=digests), lambda folder: _write(samples, place, folder)
    )
    facts = cast("dict[str, Any]", entry.facts)
    arrays: list[Array] = []
    for number, (shape, kind) in enumerate(zip(facts["shapes"], facts["types"], strict=True)):
        whole = (facts["count"], *shape)
        path = entry.folder / f"{number}.bin"
        arrays.append(np.memmap(path, kind, "r", shape=whole) if prod(whole) else np.empty(whole, kind))
    return tuple(facts["names"]), tuple(arrays)


def _write(samples: Iterable[Any], place: str, folder: Path) -> dict[str, Any]:
    """Writes sample after sample: a file of raw values for each array. Returns what they hold."""
    count, layout, streams = 0, None, []
    try:
        for count, sample in enumerate(_each(samples, place), start=1):
            if layout is None:
                layout = _layout(sample, place)
                streams = [(folder / f"{number}.bin").open("wb") for number in range(len(layout.shapes))]
            for stream, array in zip(streams, _take(sample, place, count - 1, layout), strict=True):
                stream.write(array.tobytes())
    finally:
        for stream in streams:
            stream.close()
    if layout is None:
        raise InvalidInput(f"{place} has 0 samples; give at least one")
    shapes = [list(shape) for shape in layout.shapes]
    return {"count": count, "names": list(layout.names), "shapes": shapes, "types": list(layout.types)}


def _each(samples: Iterable[Any], place: str) -> Iterator[Any]:
    with users_code(f"{place} raised"):
        iterator = iter(samples)
    end = object()
    while True:
        with users_code(f"{place} raised"):
            sample = next(iterator, end)
        if sample is end:
            return
        yield sample


def _layout(sample: Any, place: str) -> Layout:
    names, arrays = _open(sample, f"sample 0 of {place}")
    return Layout(names, tuple(array.shape for array in arrays), tuple(array.dtype.str for array in arrays))


def _take(sample: Any, place: str, index: int, layout: Layout) -> list[Array]:
    names, arrays = _open(sample, f"sample {index} of {place}")
    if names != layout.names and set(names) == set(layout.names):
        order = [names.index(name) for name in layout.names]
        names, arrays = layout.names, [*(arrays[number] for number in order), arrays[-1]]
    shapes, types = tuple(array.shape for array in arrays), tuple(array.dtype.str for array in arrays)
    if (names, shapes, types) != (layout.names, layout.shapes, layout.types):
        raise InvalidInput(
            f"sample {index} of {place} has shapes {shapes} of types {types}, sample 0 has {layout.shapes} of "
            f"{layout.types}; give all alike"
        )
    return arrays


def _open(sample: Any, place: str) -> tuple[tuple[str, ...], list[Array]]:
    """Names of the inputs where they are a dict, and all arrays of a sample, its targets last."""
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise InvalidInput(f"{place} is {type(sample).__name__}; wanted the pair (inputs, targets)")
    inputs, targets = sample
    if isinstance(inputs, Mapping):
        names, values = tuple(map(str, inputs)), list(inputs.values())
    else:
        names, values = (), list(inputs) if isinstance(inputs, tuple) else [inputs]
    if not values:
        raise InvalidInput(f"{place} has no inputs; give at least one")
    if isinstance(targets, Mapping) or (isinstance(targets, tuple) and any(np.ndim(one) for one in targets)):
        raise InvalidInput(f"targets of {place} are several; a task takes one: join them to one array or tensor")
    return names, [*(_array(value, f"inputs of {place}") for value in values), _array(targets, f"targets of {place}")]


def _array(value: Any, place: str) -> Array:
    if np.ma.is_masked(value):
        raise InvalidInput(
            f"{place} lack values ({np.count_nonzero(np.ma.getmaskarray(value))} masked); fill them, as array.filled(0) does, or leave the sample out"
        )
    with users_code(f"{place} cannot be made an array:"):
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "biuf":
        raise InvalidInput(
            f"{place} are {type(value).__name__} of {array.dtype}; wanted one array or tensor of numbers"
        )
    return array
