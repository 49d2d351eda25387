"""The arrays of a data set, as a source gives them, and the checks all of them pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bench.data.parts import Array, Part, StoredPart
from bench.errors import InvalidInput
from bench.tasks.base import Task

WANTED = "(N, C, H, W), (N, C, L) or (N, features), none of them 0"
IN_MEMORY = 2**28
"""Bytes up to which converted samples are kept in memory; larger sets are converted where they are asked for."""

CHANCE = 3.0
"""Standard deviations of a count, up to which it is no more than is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Inputs and targets of any source; `place` names it in messages, `names` its inputs where there are several.

    `named`: whether the source gave these names. `notes`: what was chosen for the user. `y_val`: None where the source has
    no samples to choose with.
    """

    place: str
    x_train: tuple[Array, ...]
    y_train: Array
    x_test: tuple[Array, ...]
    y_test: Array
    names: tuple[str, ...] = field(default=())
    named: bool = True
    notes: tuple[str, ...] = ()
    x_val: tuple[Array, ...] = ()
    y_val: Array | None = None

    @property
    def parts(self) -> tuple[tuple[str, tuple[Array, ...], Array], ...]:
        """(part, its inputs, its targets) of all parts."""
        val = () if self.y_val is None else (("val", self.x_val, self.y_val),)
        return (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test), *val)


def make_parts(given: Arrays, task: Task) -> tuple[Part, ...]:
    """The samples to train with, to test with and, where the source has any, to choose with, checked.

    Raises `InvalidInput` naming the source and the array.
    """
    parts = [StoredPart(x=x, y=y, task=task, names=_names(given, part)) for part, x, y in given.parts]
    for (part, _, _), found in zip(given.parts, parts, strict=True):
        _check_shapes(found)
        if len(found.x[0]) != len(found.y):
            raise InvalidInput(f"{given.place}: x_{part} has {len(found.x[0])} examples, y_{part} {len(found.y)}")
        task.take_targets(found.y[:] if found.y.nbytes <= IN_MEMORY else found.y[:1], found.names[-1])
    for other in parts[1:]:
        check_alike(given.place, parts[0], other)
    small = sum(4 * array.size for part in parts for array in (*part.x, part.y)) <= IN_MEMORY
    return tuple(part.in_memory() if small else part for part in parts)


def count_classes(place: str, train: Part, *others: Part) -> int:
    """How many classes the labels name. `others`: the part to test with, and the one to choose with if there is any.

    Raises `InvalidInput` for labels that leave one out, or are not in `train`.
    """
    seen, *found = (
        np.unique(np.concatenate([np.unique(part.targets(chunk)) for chunk in part.chunks()]))
        for part in (train, *others)
    )
    if len(seen) < 2:
        raise InvalidInput(f"{place}: y_train has {len(seen)} class, at least 2 are needed")
    if seen[-1] != len(seen) - 1:
        lacking = next(label for label, known in enumerate([*seen, -1]) if label != known)
        raise InvalidInput(
            f"{place}: y_train must use every label 0..{seen[-1]}, it has {len(seen)} of them and lacks "
            f"{lacking}; labels count from 0"
        )
    for name, labels in zip(("y_test", "y_val"), found, strict=False):
        if labels[-1] >= len(seen):
            raise InvalidInput(f"{place}: {name} has label {labels[-1]}, y_train only 0..{len(seen) - 1}")
    return len(seen)


def check_values(train: Part, test: Part, *others: Part) -> int:
    """Reads every sample once; returns how many to test with have the inputs of one to train with.

    0 where they are no more than those to train with that have the inputs of another: few distinct inputs leak nothing.
    Raises `InvalidInput` for values that no network takes, as the parts do.
    """
    trained, tested = (np.fromiter(_read_all(part), np.int64) for part in (train, test))
    for part in others:
        for _ in _read_all(part):
            pass
    known, counts = np.unique(trained, return_counts=True)
    found = int(np.isin(tested, known).sum())
    usual = len(tested) * float(counts[counts > 1].sum()) / len(trained)
    return found if found > usual + CHANCE * math.sqrt(usual) else 0


def describe_overlap(place: str, count: int, tested: int) -> tuple[str, ...]:
    """The note on samples that are in both parts; none where there are none."""
    said = f"{place}: {count} of {tested} samples to test with are among those to train with: their score says nothing of new ones"
    return (said,) if count else ()


def _read_all(part: Part) -> Iterator[int]:
    """Reads every input and target of a part; gives a hash of each sample's inputs."""
    for chunk in part.chunks():
        part.targets(chunk)
        for arrays in zip(*part.inputs(chunk), strict=True):
            yield hash(b"".join(np.asarray(array).tobytes() for array in arrays))


def check_alike(place: str, train: StoredPart, other: StoredPart) -> None:
    """Inputs and targets to train and to test or choose have one shape, and both inputs become floats in one way or stay whole."""
    if len(train.x) != len(other.x):
        mine, theirs = (_short(place, part.names[-1]) for part in (train, other))
        raise InvalidInput(f"{place}: {len(train.x)} inputs belong to {mine} and {len(other.x)} to {theirs}")
    for name, named, one, two in zip(train.names, other.names, train.x, other.x, strict=False):
        mine, theirs = (_short(place, text) for text in (name, named))
        if _way_in(one) != _way_in(two):
            raise InvalidInput(
                f"{place}: {mine} is {one.dtype}, {theirs} {two.dtype}: uint8 is divided by 255, floats are kept, "
                "other whole numbers stay whole; give both alike"
            )
        if one.shape[1:] != two.shape[1:]:
            raise InvalidInput(f"{place}: {mine} has inputs of shape {one.shape[1:]}, {theirs} {two.shape[1:]}")
    if train.y.shape[1:] != other.y.shape[1:]:
        theirs = _short(place, other.names[-1])
        raise InvalidInput(f"{place}: y_train has targets of shape {train.y.shape[1:]}, {theirs} {other.y.shape[1:]}")


def _way_in(inputs: Array) -> str:
    """How `bench.data.parts.take_input` takes them: bytes, floats, or whole numbers."""
    return "bytes" if inputs.dtype == np.uint8 else "floats" if inputs.dtype.kind == "f" else "whole"


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
