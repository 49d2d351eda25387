"""Every step anyone can write has a canonical text that parses back to an equal step."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compress.arguments import Argument, arguments, construct
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput
from bench.plugins import available, load


def values(argument: Argument) -> st.SearchStrategy[Any]:
    """Values of the argument's type and range."""
    return _of_kind(argument.kind, argument)


def _of_kind(kind: Any, argument: Argument) -> st.SearchStrategy[Any]:
    low = argument.within.low if argument.within else -1e6
    high = argument.within.high if argument.within else 1e6
    low, high = max(low, -1e6), min(high, 1e6)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        return st.lists(_of_kind(get_args(kind)[0], argument), max_size=3).map(tuple)
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([_of_kind(option, argument) for option in get_args(kind)])
    if kind is NoneType:
        return st.none()
    if kind is float:
        within = argument.within
        return st.floats(low, high).filter(lambda value: within is None or value in within)
    if kind is int:
        return st.integers(int(low), int(high))
    return {str: st.text(max_size=8), bool: st.booleans()}[kind]


@pytest.mark.parametrize("name", sorted(available("compressor")))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_text_and_step_are_two_forms_of_one_thing(name: str, data: st.DataObject):
    cls = load("compressor", name)
    chosen = {argument.name: data.draw(values(argument), label=argument.name) for argument in arguments(cls)}
    try:
        step = construct(cls, chosen)
    except InvalidInput:
        return  # arguments that exclude one another
    (again,) = parse_recipe("r", repr(step)).steps
    assert again == step
    assert repr(again) == repr(step)
