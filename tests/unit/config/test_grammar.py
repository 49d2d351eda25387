"""The text of models and recipes: what it reads, and what it refuses without evaluating."""

from __future__ import annotations

import sys

import pytest

from bench.config.grammar import Call, parse_call, parse_calls
from bench.errors import InvalidInput


def test_steps_keep_their_order():
    assert [call.name for call in parse_calls("a + b(x=1) + c")] == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_text_is_no_steps(text: str):
    assert parse_calls(text) == ()


def test_literals_keep_their_type():
    (call,) = parse_calls("f(a=1, b=1.5, c='x', d=True, e=None, g=-2, h=['p', 'q'], i=(1, 2))")
    assert dict(call.arguments) == {
        "a": 1, "b": 1.5, "c": "x", "d": True, "e": None, "g": -2, "h": ("p", "q"), "i": (1, 2)
    }  # fmt: skip
    assert call == parse_call(str(call))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("f(1)", "must be named"),
        ("f(**x)", "must be named"),
        ("f(x=1, x=2)", "given twice"),
        ("f(x=__import__('os'))", "not a literal: only numbers"),
        ("f(x=y)", "not a literal: only numbers"),
        ("f(x={})", "only numbers"),
        ("f(x=[[1]])", "only numbers"),
        ("f.g(x=1)", "write name"),
        ("f - g", "write name"),
        ("f(", "cannot read"),
        ("f; g", "cannot read"),
        ("\0", "cannot read"),
        ("(" * 500, "cannot read"),
        ("f(x=" + "-" * 3000 + "1)", "cannot read|is not a literal"),  # libraries raise the recursion limit
        ("f(x=" + "9" * 5000 + ")", "cannot read"),
    ],
)
def test_anything_else_is_refused_with_the_way_to_write_it(text: str, hint: str):
    with pytest.raises(InvalidInput, match=hint) as refused:
        parse_calls(text)
    assert len(str(refused.value)) < 400


def test_one_call_is_one_call():
    with pytest.raises(InvalidInput, match="found 2"):
        parse_call("a + b")
    assert parse_call("a") == Call(name="a")


@pytest.mark.parametrize("limit", [1000, 3000, 100_000])
def test_deep_text_is_refused_at_every_recursion_limit(limit: int):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        with pytest.raises(InvalidInput):
            parse_calls("f(x=" + "-" * 3000 + "1)")
    finally:
        sys.setrecursionlimit(before)
