"""Recipes as text: reads them, checks the order of their steps, and lists the steps there are."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from bench.compress.arguments import arguments, construct
from bench.compress.interface import Compressor
from bench.config.grammar import parse_calls
from bench.errors import InvalidInput
from bench.plugins import available, load
from bench.types import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDescription:
    """One line of `pressbench recipes`. `arguments`: (name, default as text or "required", what it takes)."""

    name: str
    arguments: tuple[tuple[str, str, str], ...]
    source: str
    summary: str
    trains: bool


def parse_recipe(name: str, text: str) -> Recipe:
    """`"channels(amount=0.5) + finetune(epochs=2) + int8"` -> Recipe; empty text is the baseline.

    Raises `InvalidInput` for an unknown step or argument (naming the nearest and all known ones), for a
    wrong value, and for steps in an order that cannot work.
    """
    steps = tuple(construct(_step_class(call.name), dict(call.arguments)) for call in parse_calls(text))
    _check_order(steps)
    return Recipe(name=name, steps=steps)


def fit_widths(recipe: Recipe, step: int) -> Recipe:
    """The recipe for kernels that take `step` channels at a time: the steps with `round_to='auto'` say so in their text.

    The same recipe where no step leaves its widths to the target.
    """
    steps = (one.fit_widths(step) if isinstance(one, Compressor) else one for one in recipe.steps)
    return replace(recipe, steps=tuple(steps))


def describe() -> list[StepDescription]:
    """Every registered step, by name."""
    return [_describe(name, _step_class(name)) for name in sorted(available("compressor"))]


def _step_class(name: str) -> type[Compressor]:
    cls: Any = load("compressor", name)
    if not _is_step(cls):
        raise InvalidInput(f"entry point {name!r} of pressbench.compressors is {cls!r}, not a dataclass of Compressor")
    if cls.name != name:
        raise InvalidInput(f"entry point {name!r} of pressbench.compressors is a step that calls itself {cls.name!r}")
    step: type[Compressor] = cls
    return step


def _is_step(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Compressor) and is_dataclass(found)


def _check_order(steps: tuple[Compressor, ...]) -> None:
    for position, step in enumerate(steps[:-1]):
        if step.quantizes:
            after = steps[position + 1]
            raise InvalidInput(
                f"{after!r} cannot follow {step!r}: {step.name} leaves the quantization to the runtime, which "
                "works on the final weights, so it must be the last step; "
                + ("keep one of the two" if after.quantizes else f"write {after!r} + {step!r}")
            )


def _describe(name: str, cls: type[Compressor]) -> StepDescription:
    rows = tuple(
        (argument.name, "required" if argument.required else repr(argument.default), argument.wants)
        for argument in arguments(cls)
    )
    summary = _first_line(cls)
    return StepDescription(name=name, arguments=rows, source=cls.source, summary=summary, trains=cls.trains)


def _first_line(cls: Any) -> str:
    return str(cls.__doc__ or "").strip().split("\n", 1)[0]
