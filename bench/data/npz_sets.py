"""Data sets in one .npz file: x_train, y_train, x_test, y_test, or several inputs as x_train.NAME and x_test.NAME."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.data.arrays import Arrays
from bench.data.parts import Array
from bench.errors import InvalidInput
from bench.formats.npz_file import list_npz, read_npz

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz_set(file: Path) -> Arrays:
    """Raises `InvalidInput` as `read_npz`, and for inputs to train with that are not those to test with."""
    keys = list_npz(file)
    names = find_inputs(keys, str(file))
    arrays = read_npz(file, keys_of(names))
    return collect(str(file), names, arrays, unused=sorted(set(keys) - set(keys_of(names))))


def find_inputs(keys: Iterable[str], place: str) -> tuple[str, ...]:
    """Names of several inputs, in the order of the keys; () where x_train is the only one."""
    found = list(keys)
    train, test = (
        [key.partition(".")[2] for key in found if key.startswith(f"x_{part}.")] for part in ("train", "test")
    )
    if set(train) != set(test):
        odd = ", ".join(sorted(set(train) ^ set(test)))
        raise InvalidInput(f"{place}: inputs {odd} are only in one of x_train.NAME and x_test.NAME; give both")
    if train and {"x_train", "x_test"} & set(found):
        raise InvalidInput(f"{place}: has x_train and x_train.{train[0]}; name every input x_train.NAME, or give one")
    return tuple(train)


def keys_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The arrays of a data set with these inputs."""
    if not names:
        return NPZ_KEYS
    inputs = [f"x_{part}.{name}" for part in ("train", "test") for name in names]
    return (*inputs, "y_train", "y_test")


def collect(place: str, names: tuple[str, ...], arrays: dict[str, Array], unused: Sequence[str]) -> Arrays:
    """The arrays of `keys_of` as a source. `unused`: names of others that lie beside them."""
    x_train, x_test = (
        tuple(arrays[f"x_{part}.{name}"] for name in names) or (arrays[f"x_{part}"],) for part in ("train", "test")
    )
    return Arrays(
        place=place,
        x_train=x_train,
        y_train=arrays["y_train"],
        x_test=x_test,
        y_test=arrays["y_test"],
        names=names,
        notes=(f"{place}: not used: {', '.join(unused)}",) if unused else (),
    )
