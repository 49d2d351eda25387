"""`--option KEY=VALUE`: read as a target file has it, refused by name."""

from __future__ import annotations

import pytest

from bench.errors import InvalidInput
from bench.line.options import read_options


def test_values_are_those_of_a_target_file():
    texts = ["reduce_range=true", "threads=4", "share=0.5", "provider=cpu", 'name="a b"', "day=2026-01-01"]
    assert read_options(texts) == {
        "reduce_range": True,
        "threads": 4,
        "share": 0.5,
        "provider": "cpu",
        "name": "a b",
        "day": "2026-01-01",
    }


@pytest.mark.parametrize("text", ["reduce_range", "=true", "reduce_range=", " = "])
def test_a_text_without_key_or_value_is_refused(text):
    with pytest.raises(InvalidInput, match="KEY=VALUE, as reduce_range=true"):
        read_options([text])


def test_a_key_given_twice_is_refused():
    with pytest.raises(InvalidInput, match="--option a is given twice"):
        read_options(["a=1", "a=2"])
