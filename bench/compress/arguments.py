"""Arguments of a step: reads their types and ranges from the dataclass, checks them, and writes them as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bench.config.grammar import Value
from bench.errors import InvalidInput, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """The numbers an argument takes. An `open` bound is itself not allowed."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = "" if self.high == math.inf else f"{'below' if self.open_high else 'at most'} {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


Fraction = Annotated[float, Within(low=0, high=1, open_low=True, open_high=True)]
Positive = Annotated[float, Within(low=0, open_low=True)]
Count = Annotated[int, Within(low=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a step. `wants` says in words what it takes; a `required` one has no default."""

    name: str
    kind: Any
    within: Within | None
    required: bool
    default: Any

    @property
    def wants(self) -> str:
        """For example `a number above 0 and below 1`."""
        text = _words(self.kind)
        return f"{text} {self.within}" if self.within else text


def arguments(cls: type) -> tuple[Argument, ...]:
    """The arguments of a step's class, in order. Raises `TypeError` for a field that a recipe's text cannot express."""
    return _read(cls)


@cache
def _read(cls: Any) -> tuple[Argument, ...]:
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for item in fields(cls):
        hint = hints[item.name]
        within = None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            within = next((extra for extra in extras if isinstance(extra, Within)), None)
        _words(hint)
        default = item.default
        if item.default_factory is not MISSING:
            raise TypeError(f"{cls.__name__}.{item.name}: a step's defaults are plain values")
        required = default is MISSING
        value = None if required else default
        found.append(Argument(name=item.name, kind=hint, within=within, required=required, default=value))
    return tuple(found)


def check(step: Any) -> None:
    """Raises `InvalidInput` naming the first argument that has a wrong type or is out of range, and what it takes."""
    for argument in arguments(type(step)):
        value = getattr(step, argument.name)
        fits = _fits(value, argument.kind)
        if fits and argument.within is not None and value is not None:
            items = value if isinstance(value, tuple) else (value,)
            fits = all(item in argument.within for item in items if not isinstance(item, str))
        if not fits:
            raise InvalidInput(f"{step.name}({argument.name}={value!r}): {argument.name} must be {argument.wants}")


def canonical(step: Any) -> str:
    """`name(key=value, ...)`, leaving out arguments at their default. It parses back to an equal step."""
    given = [
        f"{argument.name}={_normal(getattr(step, argument.name), argument.kind)!r}"
        for argument in arguments(type(step))
        if argument.required or getattr(step, argument.name) != argument.default
    ]
    return f"{step.name}({', '.join(given)})" if given else str(step.name)


def named_counts(what: str, texts: Sequence[str]) -> dict[str, int]:
    """Name -> number of texts like `'conv1=16'`. `what`: the step, for the message.

    Raises `InvalidInput` for another form, a number below 1 and a name given twice.
    """
    found: dict[str, int] = {}
    for text in texts:
        name, equals, count = text.rpartition("=")
        if not (name and equals and count.isdecimal() and int(count)):
            raise InvalidInput(f"{what}: {text!r}: write 'layer=number' with a number from 1 up, as 'conv1=16'")
        if name in found:
            raise InvalidInput(f"{what}: layer {name!r} is named twice")
        found[name] = int(count)
    return found


def construct(cls: Any, given: Mapping[str, Value]) -> Any:
    """The step with these arguments. Raises `InvalidInput` for an unknown, missing or wrong one."""
    known = {argument.name: argument for argument in arguments(cls)}
    for key in given:
        if key not in known:
            raise unknown(f"argument of {cls.name}", key, known)
    missing = [argument for argument in known.values() if argument.required and argument.name not in given]
    if missing:
        wants = ", ".join(f"{argument.name} ({argument.wants})" for argument in missing)
        raise InvalidInput(f"{cls.name}: give {wants}")
    return cls(**{key: _normal(value, known[key].kind) for key, value in given.items()})


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _normal(value: Any, kind: Any) -> Any:
    """An int given for a float becomes a float, so `1` and `1.0` have one text. Anything else stays as it is."""
    if get_origin(kind) in (Union, UnionType):
        kind = next((option for option in get_args(kind) if _fits(value, option)), kind)
    if kind is float and _fits(value, float):
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, tuple):
        return tuple(_normal(item, get_args(kind)[0]) for item in value)
    return value


def _words(kind: Any) -> str:
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", NoneType: "None"}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list, each {_words(get_args(kind)[0])}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_words(option) for option in get_args(kind))
    raise TypeError(f"an argument of type {kind} cannot be written in a recipe")
