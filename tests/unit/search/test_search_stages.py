"""What a search does with a record that is doubted, and with those of a search that it continues."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_records import on

from bench.errors import BoardLost, CellFailed, OtherNetwork
from bench.search.goal import LATENCY, LUTS, Goal
from bench.search.pace import Pace
from bench.search.resumed import find_stored
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
    records = (base, other, one)
    assert find_stored(records, base.key, "finetune(epochs=2) + int8()") is one
    assert find_stored(records, base.key, "finetune(epochs=3) + int8()") is None
    assert find_stored(records, "a third", "finetune(epochs=2) + int8()") is None


def whole_of(stored, now):
    """A continued search's record of the uncompressed network: `stored` is what it has, `now` what it measures."""
    search = SimpleNamespace(
        whole=None,
        goal=Goal(),
        records=[stored],
        stored={stored.key: stored},
        pace=SimpleNamespace(spent_s=lambda: 0.0, whole_s=0.0),
        around=SimpleNamespace(run_cell=lambda *_: now),
        _surely=lambda _cell, measure: measure(),
        _record_surely=lambda *_: pytest.fail("a stored one is not replaced before it is compared"),
        _keep=lambda record: record,
    )
    cell = SimpleNamespace(
        key=stored.key, model=SimpleNamespace(name="net:build"), backend=SimpleNamespace(title=stored.backend)
    )
    search.plan = SimpleNamespace(target=SimpleNamespace(name="cpu"), cells=[cell])
    search.state = SimpleNamespace(plan=search.plan)
    Searching._measure_whole(search)
    return search.stored[stored.key]


def test_a_search_is_not_continued_on_trials_of_another_network():
    stored = replace(SURE, digest="before")
    assert whole_of(stored, replace(stored, digest="before")) is stored
    another = "model net:build: its file is not the same, .* is another one than when the search was begun"
    for earlier in (stored, replace(stored, status=Status.UNTRUSTED)):
        with pytest.raises(OtherNetwork, match=another):
            whole_of(earlier, replace(SURE, digest="after"))


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNTRUSTED])
def test_a_stored_uncompressed_network_that_failed_or_is_doubted_does_not_count(status):
    stored = replace(SURE, status=status, digest="", reasons=("ended by a limit of time",))
    assert whole_of(stored, SURE) is SURE


def test_a_trial_of_the_search_that_is_continued_counts_with_the_time_that_it_took():
    """It counted as nothing, so the first new trial began however little time was left."""
    now = [100.0]

    def run_cell(*_):
        now.append(now[-1] + 30.0)
        return replace(on("ort", 0.5, recipe="widths-1"), baseline_key=SURE.key)

    search = SimpleNamespace(
        clock=lambda: now[-1], around=SimpleNamespace(run_cell=run_cell), _keep=lambda record: record
    )
    record = Searching._record(search, SimpleNamespace(), SimpleNamespace())
    pace = Pace(clock=lambda: now[-1], time_s=100.0, reserve=1.0)
    search.__dict__.update(
        pace=pace, tried=[], goal=Goal(), say=lambda _: None, _candidate=lambda *_: record, _base=lambda: SURE
    )
    Searching._measure(search, "widths-1", "finetune(epochs=2)")
    pace.add(0.0)
    assert pace.usual_s == 30.0
    assert pace.time_left(1.0)
    now.append(now[-1] + 50.0)
    assert not pace.time_left(1.0)  # 30 s more, and 30 for the finalists


def test_finalists_that_cannot_be_compared_with_each_other_are_an_answer_all_the_same(monkeypatch):
    """The search ended with that error, after hours, and without its winner."""
    errors = [CellFailed("the worker was killed by signal 9"), BoardLost("gone")]

    def fail(*_):
        raise errors.pop(0)

    monkeypatch.setattr("bench.search.searching.measure_pairs", fail)
    noted: list[str] = []
    search = SimpleNamespace(note=noted.append)
    assert Searching._compare(search, None, None, None) == ()
    assert noted == ["winner and runner-up are not compared with each other: the worker was killed by signal 9"]
    with pytest.raises(BoardLost):
        Searching._compare(search, None, None, None)
