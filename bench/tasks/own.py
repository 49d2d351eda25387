"""A task of the user's own, and how a task is found by its text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from bench.errors import InvalidInput, unknown
from bench.own_code import file_of, is_import_path, load_object, sources_of, users_code
from bench.tasks.base import Array, Forward, Outputs, ScoreKind, Task, check_numbers
from bench.tasks.builtin import BUILT_IN

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = "a Task has loss(outputs, targets) and score(outputs, targets)"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTask(Task):
    """A user's functions, with what they return checked. `own_step`: None for loss(forward(*inputs), targets)."""

    text: str
    kind: ScoreKind
    own_loss: Callable[..., Any]
    own_score: Callable[..., Any]
    own_step: Callable[..., Any] | None = None
    file: Path | None = None
    over_classes: bool = False
    labels: bool = False

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """What the user's `loss` returns: a scalar tensor with a gradient where the outputs have one."""
        with users_code(f"loss of {self.text} raised"):
            value = self.own_loss(outputs, targets)
        return self._check_loss("loss", value)

    def step(self, forward: Forward, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """What the user's `step(forward, inputs, targets)` returns, where there is one."""
        if self.own_step is None:
            return self.loss(forward(*inputs), targets)
        with users_code(f"step of {self.text} raised"):
            value = self.own_step(forward, inputs, targets)
        return self._check_loss("step", value)

    def score(self, outputs: Outputs, targets: Tensor) -> float:
        """What the user's `score` returns: one finite number."""
        with users_code(f"score of {self.text} raised"):
            value = self.own_score(outputs, targets)
            number = value if isinstance(value, bool) else _as_float(value)
        if isinstance(number, bool) or number is None or not math.isfinite(number):
            shown = f"{value!r}" if number is not None else type(value).__name__
            raise InvalidInput(f"score of {self._named()} returned {shown}; one finite number is wanted")
        return number

    def take_targets(self, targets: Array, place: str) -> Array:
        """Floats as float32, integers as int64; truth values stay."""
        check_numbers(targets, place)
        kind = targets.dtype.kind
        return targets.astype(np.float32 if kind == "f" else np.bool_ if kind == "b" else np.int64, copy=False)

    def identity(self) -> list[str]:
        """Its text, and the content of the file it is written in and of those that it imports from its folder."""
        sources = sources_of(self.text, self.file) if self.file else []
        return [self.text, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in sources)]

    def _check_loss(self, what: str, value: object) -> Tensor:
        from torch import Tensor

        if not isinstance(value, Tensor) or value.numel() != 1:
            shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InvalidInput(f"{what} of {self._named()} returned {shown}; a tensor with one number is wanted")
        return value.reshape(())

    def _named(self) -> str:
        return f"{self.text} ({self.file})" if self.file else self.text


def find_task(text: str) -> Task:
    """A built-in task by name, or the user's at `package.module:Task`: a class or function that gives it, or an object.

    Raises `InvalidInput` for a name that is not there, and for an object that is not a task.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    if not is_import_path(text):
        raise unknown("task", text, [*BUILT_IN, "package.module:Task"])
    found = load_object(text, "Task", callable_only=False)
    made = found
    if isinstance(found, type) or not _is_task(found):
        if not callable(found):
            raise InvalidInput(f"--task {text} is {type(found).__name__}: {EXPECTED}")
        with users_code(f"{text} raised"):
            made = found()
    if not _is_task(made):
        raise InvalidInput(f"--task {text} gives {type(made).__name__}: {EXPECTED}")
    return OwnTask(
        text=text,
        kind=_kind_of(made, text),
        own_loss=made.loss,
        own_score=made.score,
        own_step=getattr(made, "step", None),
        file=file_of(text, found),
    )


def _is_task(found: Any) -> bool:
    return callable(getattr(found, "loss", None)) and callable(getattr(found, "score", None))


def _kind_of(made: Any, text: str) -> ScoreKind:
    name, unit = getattr(made, "name", "score"), getattr(made, "unit", "")
    higher = getattr(made, "higher_is_better", True)
    if not isinstance(name, str) or not isinstance(unit, str) or not isinstance(higher, bool) or not name:
        raise InvalidInput(f"--task {text}: name and unit are texts, higher_is_better is True or False")
    return ScoreKind(name=name, unit=unit, higher_is_better=higher)


def _as_float(value: Any) -> float | None:
    """None for what is not one number."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
