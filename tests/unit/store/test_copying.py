"""A store copied whole: from SQLite to SQLite and to a real PostgreSQL server."""

from __future__ import annotations

import pytest
from fake_records import record, run, suite

from bench.cli import main
from bench.errors import InvalidInput, Unavailable
from bench.owner import Owner
from bench.records import PairLaunch
from bench.store import Remeasured, Store, Triage, copying
from bench.store.connect import connect
from bench.store.copying import copy_store
from bench.store.schema import METADATA


@pytest.fixture(params=["sqlite", "postgresql"])
def to(request, tmp_path):
    """Where an empty store can be opened."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/there.db"
    url = request.getfixturevalue("postgres_url")
    engine, _ = connect(url)
    METADATA.drop_all(engine)
    engine.dispose()
    return url


def decision(at: str, note: str) -> Triage:
    named = {"alarm": "a", "series": "s", "kind": "regression", "run_id": run().run_id, "state": "expected"}
    return Triage(**named, note=note, changed_at=at)


@pytest.fixture
def source(tmp_path):
    """A store with two runs, what was measured again, and a decision."""
    with Store.open(tmp_path / "here" / "pressbench.db") as store:
        for one in (run(), run("second", started_at="2026-12-01T00:00:00+00:00")):
            store.begin_run(one)
            store.finish_run(one.run_id, "finished", "later")
        for cell in suite():
            store.add(cell)
        store.add(record("second"))
        pairs = (PairLaunch(blocks_ns=((1.0, 2.5, 2.5, 1.0),)),)
        store.add_remeasured(Remeasured(run_id="second", key="k", cell="c", good="a", tonight="b", pairs=pairs))
        store.decide(decision("2026-11-01", "known"))
        yield store


def everything(store: Store):
    return store.runs(), store.records(), store.remeasured(), store.triage()


def test_everything_arrives_and_the_source_stays(source, to):
    before = everything(source)
    with Store.open(to) as there:
        counts = copy_store(source, there)
        assert everything(there) == before
    assert everything(source) == before
    assert counts == {"runs": 2, "cells": len(before[1]), "remeasured": 1, "triage": 1}


def test_a_run_that_is_there_already_refuses_the_whole_copy(source, to):
    with Store.open(to) as there:
        there.begin_run(run("second"))
        there.finish_run("second", "finished", "later")
        with pytest.raises(InvalidInput, match=r"has run second of .*pressbench.db already: nothing was copied"):
            copy_store(source, there)
        assert [one.run_id for one in there.runs()] == ["second"]
        assert there.records() == []


def test_what_did_not_arrive_whole_is_not_kept(source, to, monkeypatch):
    real = copying.copy_rows

    def lose(here, there, table, run_id):
        if (table.name, run_id) != ("cells", "second"):
            real(here, there, table, run_id)

    monkeypatch.setattr(copying, "copy_rows", lose)
    with Store.open(to) as there:
        with pytest.raises(Unavailable, match=r"of cells arrived, of \d+ and \d+: nothing was kept"):
            copy_store(source, there)
        assert there.runs() == []


def test_of_two_decisions_about_an_alarm_the_newer_stays(source, to):
    with Store.open(to) as there:
        there.decide(decision("2026-12-01", "newer"))
        assert copy_store(source, there)["triage"] == 0
        assert [one.note for one in there.triage()] == ["newer"]


def test_a_run_that_goes_on_is_waited_for(source, to):
    source.begin_run(run("going"))
    with Store.open(to) as there, pytest.raises(InvalidInput, match="run going still goes on"):
        copy_store(source, there)


def test_more_runs_can_be_added_to_a_copy_by_several_hosts(source, to):
    with Store.open(to) as there:
        copy_store(source, there)
        owner = Owner(host="laptop-2", pid=2, started=1.0)
        second = Store(engine=there.engine, where=there.where, owner=owner)
        for store, run_id in ((there, "mine"), (second, "theirs")):
            store.begin_run(run(run_id))
            store.add(record(run_id))
        assert {"mine", "theirs"} <= {one.run_id for one in there.runs()}


def test_the_command_copies_and_refuses_a_copy_onto_itself(source, to, tmp_path, capsys):
    for code, words in ((0, "2 runs with"), (2, "has run")):
        with pytest.raises(SystemExit) as ended:
            main(["results", "copy", "--results", str(tmp_path / "here"), "--to", to])
        assert ended.value.code == code
        printed = capsys.readouterr()
        assert words in printed.out + printed.err
    with pytest.raises(SystemExit) as ended:
        main(["results", "copy", "--database", to, "--to", to])
    assert ended.value.code == 2
    assert "that is the store itself" in capsys.readouterr().err
