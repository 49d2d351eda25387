"""The arrays of a data set, as a source gives them, and the checks all of them pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.data.parts import Array, Part, StoredPart
from bench.errors import InvalidInput
from bench.tasks.base import Task

WANTED = "(N, C, H, W), (N, C, L) or (N, features), none of them 0"
IN_MEMORY = 2**28
"""Bytes up to which converted samples are kept in memory; larger sets are converted where they are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Inputs and targets of any source; `place` names it in messages, `names` its inputs where there are several.

    `named`: whether the source gave these names. `notes`: what was chosen for the user.
    """

    place: str
    x_train: tuple[Array, ...]
    y_train: Array
    x_test: tuple[Array, ...]
    y_test: Array
    names: tuple[str, ...] = field(default=())
    named: bool = True
    notes: tuple[str, ...] = ()


def make_parts(given: Arrays, task: Task) -> tuple[Part, Part]:
    """The samples to train and to test with, checked. Raises `InvalidInput` naming the source and the array."""
    parts = [
        StoredPart(x=x, y=y, task=task, names=_names(given, part))
        for part, x, y in (("train", given.x_train, given.y_train), ("test", given.x_test, given.y_test))
    ]
    for part, found in zip(("train", "test"), parts, strict=True):
        _check_shapes(found)
        if len(found.x[0]) != len(found.y):
            raise InvalidInput(f"{given.place}: x_{part} has {len(found.x[0])} examples, y_{part} {len(found.y)}")
        task.take_targets(found.y[:] if found.y.nbytes <= IN_MEMORY else found.y[:1], found.names[-1])
    check_alike(given.place, parts[0], parts[1])
    small = sum(4 * array.size for part in parts for array in (*part.x, part.y)) <= IN_MEMORY
    return (parts[0].in_memory(), parts[1].in_memory()) if small else (parts[0], parts[1])


def count_classes(place: str, train: Part, test: Part) -> int:
    """How many classes the labels name. Raises `InvalidInput` for labels that leave one out, or are not in `train`."""
    seen, tested = (
        np.unique(np.concatenate([np.unique(part.targets(chunk)) for chunk in part.chunks()])) for part in (train, test)
    )
    if len(seen) < 2:
        raise InvalidInput(f"{place}: y_train has {len(seen)} class, at least 2 are needed")
    if seen[-1] != len(seen) - 1:
        lacking = next(label for label, known in enumerate([*seen, -1]) if label != known)
        raise InvalidInput(
            f"{place}: y_train must use every label 0..{seen[-1]}, it has {len(seen)} of them and lacks "
            f"{lacking}; labels count from 0"
        )
    if tested[-1] >= len(seen):
        raise InvalidInput(f"{place}: y_test has label {tested[-1]}, y_train only 0..{len(seen) - 1}")
    return len(seen)


def check_values(train: Part, test: Part) -> None:
    """Reads every sample once. Raises `InvalidInput` for values that no network takes, as the parts do."""
    for part in (train, test):
        for chunk in part.chunks():
            part.inputs(chunk)
            part.targets(chunk)


def check_alike(place: str, train: StoredPart, test: StoredPart) -> None:
    """Inputs and targets to train and to test have one shape, and both inputs are bytes or neither is."""
    if len(train.x) != len(test.x):
        raise InvalidInput(f"{place}: {len(train.x)} inputs to train with and {len(test.x)} to test with")
    for name, other, one, two in zip(train.names, test.names, train.x, test.x, strict=False):
        mine, theirs = (_short(place, text) for text in (name, other))
        if (one.dtype == np.uint8) != (two.dtype == np.uint8):
            raise InvalidInput(
                f"{place}: {mine} is {one.dtype}, {theirs} {two.dtype}: "
                "uint8 is divided by 255, floats are kept; give both alike"
            )
        if one.shape[1:] != two.shape[1:]:
            raise InvalidInput(f"{place}: {mine} has inputs of shape {one.shape[1:]}, {theirs} {two.shape[1:]}")
    if train.y.shape[1:] != test.y.shape[1:]:
        raise InvalidInput(f"{place}: y_train has targets of shape {train.y.shape[1:]}, y_test {test.y.shape[1:]}")


def _names(given: Arrays, part: str) -> tuple[str, ...]:
    inputs = [f"x_{part}.{name}" for name in given.names] or [f"x_{part}"]
    return tuple(f"{given.place}: {name}" for name in (*inputs, f"y_{part}"))


def _short(place: str, name: str) -> str:
    return name.removeprefix(f"{place}: ")


def _check_shapes(part: StoredPart) -> None:
    several = len(part.x) > 1
    for x, place in zip(part.x, part.names, strict=False):
        if (x.ndim < 1 if several else x.ndim not in (2, 3, 4)) or 0 in x.shape:
            raise InvalidInput(f"{place} has shape {x.shape}; wanted {WANTED}")
        if several and len(x) != len(part.x[0]):
            raise InvalidInput(f"{place} has {len(x)} examples, {part.names[0]} {len(part.x[0])}")
