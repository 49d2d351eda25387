"""One board of a fleet for a whole search: leased while it lasts, given back in every ending, and the same after --resume."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fake_fleet import FLEET, Lab, plan_fleet
from fake_records import record

from bench.commands.fleet import measure
from bench.commands.progress import watching
from bench.commands.search import on_fleet
from bench.commands.search.command import search_best
from bench.errors import BoardBusy, BoardLost, InvalidInput, LeaseLost, Unavailable
from bench.line.fleet.one import hold_one
from bench.line.fleet.run import Arranged
from bench.line.plan import find_boards
from bench.search.asked import SUITE, Asked
from bench.store import Leases, Offer, Store


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return plan_fleet(tmp_path_factory.mktemp("fleet"), FLEET)


@pytest.fixture
def lab(tmp_path, plan):
    made = Lab(tmp_path, {False: plan})
    yield made
    made.store.close()


def hold(lab, plan):
    arranged = Arranged(find_trouble=lab.check, say=lab.say, leases=lab.leases, poll_s=0.01)
    return hold_one(find_boards(plan.request), "r", arranged, lab.around().open_reach)


def holders(lab):
    return {one.name: one.run_id for one in lab.leases.boards() if one.owner}


def test_the_first_free_board_that_is_fit_is_held_and_given_back(lab, plan):
    lab.broken["a"] = "disk: 3 MB free"
    lab.broken["b"] = BoardBusy("b.lab is in use by process 7")
    with hold(lab, plan) as (board, _lease):
        assert board.name == "c"
        assert holders(lab) == {"c": "r"}
    assert not holders(lab)
    assert {one.name: one.trouble for one in lab.leases.boards()}["a"] == "disk: 3 MB free"


def test_boards_of_other_runs_are_waited_for(lab, plan):
    theirs = [
        lab.leases.take([Offer(place=board.place, name=board.name, sku="orin")], "other")
        for board in find_boards(plan.request)
    ]
    lab.heard = lambda _line: lab.leases.release(theirs[1])
    with hold(lab, plan) as (board, _lease):
        assert board.name == "b"
    assert lab.said == ["waiting for a board: other runs have a, b, c"]


def test_where_no_board_is_fit_the_trouble_of_each_is_named_and_nothing_is_held(lab, plan):
    lab.broken = {"a": "no runtime", "b": Unavailable("b.lab does not answer"), "c": "no space"}
    named = r"no board can be used: a: no runtime; b: b\.lab does not answer; c: no space"
    with pytest.raises(Unavailable, match=named), hold(lab, plan):
        raise AssertionError
    assert not holders(lab)


@pytest.fixture
def search(tmp_path, plan, monkeypatch):
    """A search on the fleet whose trials only pretend: what it does on its board is handed in."""
    asked = Asked(request=replace(plan.request, models=plan.request.models or ("lenet300_100(width=0.1)",)))
    monkeypatch.setattr(measure, "find_trouble", lambda *_given: "")
    results, cache = tmp_path / "results", tmp_path / "cache"

    def run(find, *, resume=False):
        monkeypatch.setattr(on_fleet, "find_best", find)
        said = io.StringIO()
        with watching(said) as watch:
            try:
                search_best(asked, results=results, url=None, resume=resume, cache=cache, watch=watch)
            except BoardLost:
                return said.getvalue()
        raise AssertionError

    return run


def die(asked, around, _note, *, earlier):
    """A search whose board dies at its second trial."""
    around.store.begin_run(earlier)
    leases = Leases(store=around.store)
    assert {one.name: one.run_id for one in leases.boards() if one.owner} == {asked.request.board: earlier.run_id}
    around.store.add(record(earlier.run_id, key="first"), around.lease)
    around.store.finish_run(earlier.run_id, "interrupted", "2026-11-29T00:00:00+00:00")
    raise BoardLost("a.lab does not answer")


def test_a_search_holds_its_board_and_goes_on_there(search, tmp_path, monkeypatch):
    assert "searching on board a" in search(die)
    with Store.open(tmp_path / "results" / "pressbench.db") as store:
        leases = Leases(store=store)
        assert not any(one.owner for one in leases.boards())
        (run,) = store.runs()
        assert (run.suite, run.request["board"], run.status) == (SUITE, "a", "interrupted")

        def go_on(*given, earlier):
            assert earlier.run_id == run.run_id
            die(*given, earlier=earlier)

        assert "the search goes on where it began, on board a" in search(go_on, resume=True)
        monkeypatch.setattr(measure, "find_trouble", lambda *_given: "throttled")
        with pytest.raises(Unavailable, match=r"no board can be used: a: throttled$"):  # b and c are free
            search(go_on, resume=True)


def test_what_a_board_that_was_given_on_measured_is_refused(search, tmp_path):
    def sleep_too_long(asked, around, note, *, earlier):
        around.store.begin_run(earlier)
        Leases(store=around.store).release(around.lease)
        with pytest.raises(LeaseLost, match="the board was given on"):
            around.store.add(record(earlier.run_id), around.lease)
        raise BoardLost("over")

    search(sleep_too_long)


def test_a_board_that_left_the_fleet_file_is_named(plan):
    with pytest.raises(InvalidInput, match=r"unknown board of .*fleet\.toml 'gone'"):
        find_boards(replace(plan.request, board="gone"))
