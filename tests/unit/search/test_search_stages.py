"""What a search does with a record that is doubted, and with those of a search that it continues."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from fake_records import on

from bench.errors import BoardLost, CellFailed, OtherNetwork
from bench.search import searching as searching_module
from bench.search.found import compare_finalists
from bench.search.goal import LATENCY, LUTS, Goal
from bench.search.judge import judge
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
    search._join = partial(Searching._join, search)
    Searching._measure(search, "widths-1", "finetune(epochs=2)")
    pace.add(0.0)
    assert pace.usual_s == 30.0
    assert pace.time_left(1.0)
    now.append(now[-1] + 50.0)
    assert not pace.time_left(1.0)  # 30 s more, and 30 for the finalists


def test_stored_trials_that_no_network_asks_for_again_are_in_the_answer_and_may_win(monkeypatch):
    """A later network begins below the best that is known, which depends on how far the earlier ones came: the best so far could go."""
    base, text = SURE, "finetune(epochs=2)"
    best = replace(on("ort", 0.5, recipe="widths-7"), key="7", baseline_key=base.key, recipe_text=text)
    asked_again = replace(best, key="3", recipe="widths-3", recipe_text="int8")
    family = replace(best, key="f", recipe="family-1", recipe_text="float16")
    elsewhere = replace(best, key="e", baseline_key="of another backend")
    whole = judge(base, base, Goal())
    own = SimpleNamespace(whole=whole, space=None, predictor=None, title="", tried=(whole,))
    turns = SimpleNamespace(
        look_at_own=lambda _: own, try_students=lambda *_: None, why="", pruned={}, students=[], take=lambda *_: [own]
    )
    monkeypatch.setattr(searching_module, "Turns", lambda **_: turns)
    monkeypatch.setattr(searching_module, "find_students", lambda *_: [])
    noted, said = [], []
    cells = [SimpleNamespace(key=base.key, backend=SimpleNamespace(title="ort"), conditions=SimpleNamespace(threads=1))]
    search = SimpleNamespace(
        run_id="r",
        asked=None,
        plan=None,
        goal=Goal(minimize="latency"),
        pace=SimpleNamespace(spent_s=lambda: 9.0),
        tried=[],
        stored={one.key: one for one in (base, asked_again, best, family, elsewhere)},
        state=SimpleNamespace(plan=SimpleNamespace(cells=cells)),
        note=noted.append,
        say=said.append,
        clock=None,
        _means=None,
        _measure=None,
        _measure_whole=lambda: whole,
        _base=lambda: base,
        _measure_finals=lambda _: None,
    )
    search._join = partial(Searching._join, search)
    search._recall = partial(Searching._recall, search)
    search._try_recipes = lambda: [search._join(asked_again, "int8")]
    found = Searching.find(search)
    assert [one.key for one in found.ended.tried] == [base.key, "3", "7"]
    assert (found.ended.tried[2].choice, found.ended.tried[2].recipe) == (None, text)
    assert {one.key for one in found.ranked} == {base.key, "3", "7"}
    assert noted == ["--resume: stored trials that nothing asked for again, which count all the same: 1"]
    assert len(said) == 2


def test_a_candidate_that_is_pruned_in_two_turns_has_one_line():
    """The best network's strategy runs once more from the beginning."""
    said: list[str] = []
    search = SimpleNamespace(
        asked=SimpleNamespace(then=""), pruned=set(), say=said.append, _text=lambda _space, choice, *_: f"r{choice}"
    )
    ended = [Searching._end(search, None, choice, "", "it is dear", 0.5) for choice in ((0,), (0,), (1,))]
    assert [one.recipe for one in ended] == ["r(0,)", "r(0,)", "r(1,)"]
    assert [line.strip() for line in said] == ["pruned  r(0,): it is dear", "pruned  r(1,): it is dear"]


def test_finalists_that_cannot_be_compared_with_each_other_are_an_answer_all_the_same(monkeypatch):
    """The search ended with that error, after hours, and without its winner."""
    errors = [CellFailed("the worker was killed by signal 9"), BoardLost("gone")]

    def fail(*_):
        raise errors.pop(0)

    monkeypatch.setattr("bench.search.found.measure_pairs", fail)
    noted: list[str] = []
    assert compare_finalists(None, None, None, noted.append) == ()
    assert noted == ["winner and runner-up are not compared with each other: the worker was killed by signal 9"]
    with pytest.raises(BoardLost):
        compare_finalists(None, None, None, noted.append)
