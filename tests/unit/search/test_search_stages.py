"""What a search does with a record that is doubted, and with those of a search that it continues."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_records import on

from bench.search.goal import LATENCY, LUTS
from bench.search.searching import Searching
from bench.types import Status

DOUBTED = on("ort", 1.0, status=Status.UNTRUSTED, reasons=("the machine was throttled",))
SURE = on("ort", 1.1)


def surely(records, cost=LATENCY, own=True):
    """The record that counts, and what was noted."""
    noted: list[str] = []
    search = SimpleNamespace(note=noted.append, goal=SimpleNamespace(cost=cost))
    search._is_doubted = lambda record: Searching._is_doubted(search, record)
    cell = SimpleNamespace(key="k", baseline_key="k" if own else "b", recipe=SimpleNamespace(name="winner"))
    left = iter(records)
    return Searching._surely(search, cell, lambda: next(left)), noted


@pytest.mark.parametrize(("own", "what"), [(True, "the uncompressed network"), (False, "the winner")])
def test_what_is_doubted_is_measured_once_more_and_no_third_time(own, what):
    assert surely([SURE, DOUBTED], own=own) == (SURE, [])
    assert surely([DOUBTED, SURE], own=own) == (SURE, [f"{what} is measured once more: the machine was throttled"])
    assert surely([DOUBTED, DOUBTED, SURE], own=own)[0] is DOUBTED


def test_a_count_of_logic_is_not_repeated():
    assert surely([DOUBTED, SURE], cost=LUTS) == (DOUBTED, [])


def test_the_stored_record_of_the_same_steps_is_found_under_any_name():
    base = on("ort", 1.0)
    one = replace(
        on("ort", 0.5, recipe="widths-7"), key="7", baseline_key=base.key, recipe_text="finetune(epochs=2)+int8"
    )
    other = replace(one, key="8", baseline_key="of another backend")
    search = SimpleNamespace(stored={record.key: record for record in (base, other, one)})
    assert Searching._find_stored(search, base.key, "finetune(epochs=2) + int8()") is one
    assert Searching._find_stored(search, base.key, "finetune(epochs=3) + int8()") is None
    assert Searching._find_stored(search, "a third", "finetune(epochs=2) + int8()") is None
