"""The four arrays of a classification data set, as a source gives them, and the checks all of them pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import InvalidInput

WANTED = "(N, C, H, W), (N, C, L) or (N, features), none of them 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Inputs (uint8 or floats) and labels (integers) of any source; `place` names it in messages."""

    place: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def check_arrays(given: Arrays) -> tuple[Arrays, int]:
    """The arrays as float32 and int64 (uint8 inputs divided by 255), and how many classes there are.

    Raises `InvalidInput` for wrong shapes, types or values; names the source and the array.
    """
    place = given.place
    found = Arrays(
        place=place,
        x_train=_inputs(given.x_train, f"{place}: x_train"),
        y_train=_labels(given.y_train, f"{place}: y_train"),
        x_test=_inputs(given.x_test, f"{place}: x_test"),
        y_test=_labels(given.y_test, f"{place}: y_test"),
    )
    for part, x, y in (("train", found.x_train, found.y_train), ("test", found.x_test, found.y_test)):
        if len(x) != len(y):
            raise InvalidInput(f"{place}: x_{part} has {len(x)} examples, y_{part} {len(y)}")
    _check_alike(given)
    return found, _classes(found)


def _check_alike(given: Arrays) -> None:
    """Inputs to train and to test have one shape, and both are bytes or neither is."""
    train, test = given.x_train, given.x_test
    if (train.dtype == np.uint8) != (test.dtype == np.uint8):
        raise InvalidInput(
            f"{given.place}: x_train is {train.dtype}, x_test {test.dtype}: "
            "uint8 is divided by 255, floats are kept; give both alike"
        )
    if train.shape[1:] != test.shape[1:]:
        raise InvalidInput(f"{given.place}: x_train has inputs of shape {train.shape[1:]}, x_test {test.shape[1:]}")


def _classes(found: Arrays) -> int:
    labels = np.unique(found.y_train)
    if len(labels) < 2:
        raise InvalidInput(f"{found.place}: y_train has {len(labels)} class, at least 2 are needed")
    if labels[-1] != len(labels) - 1:
        lacking = next(label for label, seen in enumerate([*labels, -1]) if label != seen)
        raise InvalidInput(
            f"{found.place}: y_train must use every label 0..{labels[-1]}, it has {len(labels)} of them and lacks "
            f"{lacking}; labels count from 0"
        )
    if found.y_test.max() >= len(labels):
        raise InvalidInput(f"{found.place}: y_test has label {found.y_test.max()}, y_train only 0..{len(labels) - 1}")
    return len(labels)


def _inputs(x: np.ndarray, place: str) -> np.ndarray:
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InvalidInput(f"{place} has shape {x.shape}; wanted {WANTED}")
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] == x.shape[2] > 4:
        raise InvalidInput(f"{place} has shape {x.shape}, which is channels last; wanted (N, C, H, W)")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x, np.float32) / np.float32(255)
    if not np.issubdtype(x.dtype, np.floating):
        raise InvalidInput(f"{place} is {x.dtype}; wanted uint8 or a float type")
    converted = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(converted).all():
        raise InvalidInput(f"{place} holds NaN or infinite values")
    return converted


def _labels(y: np.ndarray, place: str) -> np.ndarray:
    if y.ndim != 1 or len(y) == 0:
        raise InvalidInput(f"{place} has shape {y.shape}; wanted (N,), N > 0")
    if not np.issubdtype(y.dtype, np.integer):
        raise InvalidInput(f"{place} is {y.dtype}; wanted integers")
    if y.min() < 0:
        raise InvalidInput(f"{place} has label {y.min()}; labels start at 0")
    return y.astype(np.int64)
