"""The text of `--input` and `--feedback`, the same on the command line and in a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bench.errors import InvalidInput
from bench.types import AskedInput

BATCH = "N"
"""What marks the batch axis in a shape."""
WANTED = "NAME=SIZES with N for the batch axis, as ids=N,128 or state=2,N,64; 'sr=' is a scalar"
LARGEST = 2**31 - 1


def parse_inputs(texts: Sequence[str]) -> tuple[AskedInput, ...]:
    """Of every `--input NAME=SIZES[:dtype]`. Raises `InvalidInput` for any other text, or an input given twice."""
    found = tuple(_parse_input(text) for text in texts)
    _refuse_repeated([item.name for item in found], "--input {0!r} is given twice: give each input once")
    return found


def parse_feedback(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(output, input) of every `--feedback OUT=IN`. Raises `InvalidInput` for any other text, or an input fed twice."""
    found = []
    for text in texts:
        output, found_sign, name = text.rpartition("=")
        if not (found_sign and output and name):
            raise InvalidInput(f"--feedback {text!r}: wanted OUTPUT=INPUT, as stateN=state")
        found.append((output, name))
    _refuse_repeated([name for _, name in found], "--feedback: input {0!r} would be fed by two outputs; name one")
    return tuple(found)


def _refuse_repeated(names: Sequence[str], message: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInput(message.format(name))


def _parse_input(text: str) -> AskedInput:
    """The last `=` ends the name: names of tensors hold `=` seldom, and `:` often (`args_0:0`)."""
    name, found_sign, rest = text.rpartition("=")
    if not (found_sign and name):
        raise InvalidInput(f"--input {text!r}: wanted {WANTED}")
    sizes, _, dtype = rest.partition(":")
    axes = tuple(_parse_size(size, text) for size in sizes.split(",")) if sizes else ()
    if axes.count(None) > 1:
        raise InvalidInput(f"--input {text!r}: {BATCH} stands for the batch axis and can be there once")
    return AskedInput(name=name, sizes=axes, dtype=_parse_dtype(dtype, text))


def _parse_size(size: str, text: str) -> int | None:
    if size.strip() == BATCH:
        return None
    try:
        number = int(size)
    except ValueError:
        raise InvalidInput(f"--input {text!r}: {size!r} is not a size; wanted {WANTED}") from None
    if not 1 <= number <= LARGEST:
        raise InvalidInput(f"--input {text!r}: a size is a number from 1 up, found {number}")
    return number


def _parse_dtype(dtype: str, text: str) -> str:
    if not dtype:
        return ""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "fiub":
        raise InvalidInput(f"--input {text!r}: {dtype!r} is not a type of numbers, as float32, int64 or bool")
    return str(kind)
