"""Data sets in one .npz file: x_train, y_train, x_test, y_test, or several inputs as x_train.NAME and x_test.NAME.

x_val and y_val may lie beside them: the samples that a search chooses with."""

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
    wanted = keys_of(names, keys)
    return collect(str(file), names, read_npz(file, wanted), unused=sorted(set(keys) - set(wanted)))


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


def keys_of(names: tuple[str, ...], found: Iterable[str]) -> tuple[str, ...]:
    """The arrays of a data set with these inputs; those to choose with only where all of them were found."""
    inputs = [f"x_{part}.{name}" for part in ("train", "test") for name in names]
    needed = (*inputs, "y_train", "y_test") if names else NPZ_KEYS
    val = (*([f"x_val.{name}" for name in names] or ["x_val"]), "y_val")
    return (*needed, *val) if set(val) <= set(found) else needed


def collect(place: str, names: tuple[str, ...], arrays: dict[str, Array], unused: Sequence[str]) -> Arrays:
    """The arrays of `keys_of` as a source. `unused`: names of others that lie beside them."""
    validated = "y_val" in arrays
    x_train, x_test, x_val = (
        tuple(arrays[f"x_{part}.{name}"] for name in names) or (arrays[f"x_{part}"],)
        if part != "val" or validated
        else ()
        for part in ("train", "test", "val")
    )
    notes = [f"{place}: a search chooses with x_val and y_val; nothing else uses them"] if validated else []
    return Arrays(
        place=place,
        x_train=x_train,
        y_train=arrays["y_train"],
        x_test=x_test,
        y_test=arrays["y_test"],
        names=names,
        notes=(*notes, *([f"{place}: not used: {', '.join(unused)}"] if unused else [])),
        x_val=x_val,
        y_val=arrays.get("y_val"),
    )
