"""A PostgreSQL server that is killed under a run and comes back: nothing is lost, nothing doubled, old leases are refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import postgres
import pytest
from fake_records import record, run
from needs import lacking

from bench.errors import DatabaseAway, InvalidInput, LeaseLost, Unavailable
from bench.owner import Owner, has_ended, parse, this_process
from bench.store import Leases, Offer, Store
from bench.store.patience import Patience

BOARD = [Offer(place="ssh:a", name="a", sku="orin")]


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="pip install 'pressbench[postgres]'")
    if reason := postgres.missing():
        lacking("postgres", reason)
    with postgres.running() as started:
        yield started


def start_when_told(server, told: threading.Event) -> threading.Thread:
    """A server that comes back once a store said that it waits."""

    def start() -> None:
        assert told.wait(60)
        server.start()

    thread = threading.Thread(target=start)
    thread.start()
    return thread


def test_a_database_that_goes_away_and_comes_back_is_waited_for(server):
    told, lines = threading.Event(), []

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    with Store.open(server.url, say=say) as store:
        leases = Leases(store=store)
        store.begin_run(run())
        lease = leases.take(BOARD, run().run_id)
        store.add(record(), lease)
        server.kill()
        thread = start_when_told(server, told)
        store.add(record(reasons=("again",)), lease)
        thread.join()
        assert [one.reasons for one in store.records()] == [("again",)]
        assert leases.beat([lease])
        assert len(lines) == 1
        assert "the database does not answer: trying again for 60 s" in lines[0]
        stale = replace(lease, fence=lease.fence - 1)
        server.kill()
        told.clear()
        thread = start_when_told(server, told)
        with pytest.raises(LeaseLost):
            store.add(record(key="other"), stale)
        thread.join()


def test_one_that_stays_away_is_named_and_who_is_in_a_hurry_does_not_wait(server):
    with Store.open(server.url) as store:
        server.kill()
        asked = []
        impatient = replace(store, patience=Patience(limit_s=0.2, say=asked.append))
        with pytest.raises(DatabaseAway, match="postgresql://"):
            impatient.runs()
        assert len(asked) == 1
        with pytest.raises(DatabaseAway):
            Leases(store=store).hurry().boards()
    with pytest.raises(Unavailable):
        Store.open(server.url)
    server.start()


def test_opening_waits_for_a_database_where_a_user_reads_so(server):
    told, lines = threading.Event(), []

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    server.kill()
    thread = start_when_told(server, told)
    with Store.open(server.url, say=say) as store:
        assert store.runs() is not None
    thread.join()
    (line,) = lines
    assert "the database does not answer: trying again for 60 s" in line


def test_what_is_no_loss_of_the_database_is_not_tried_again(tmp_path):
    tries = []

    def fail() -> None:
        tries.append("once")
        raise InvalidInput("no such run")

    with pytest.raises(InvalidInput):
        Patience().persist(fail)
    assert tries == ["once"]


def test_a_run_takes_again_the_board_it_has_with_a_higher_number(tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        leases = Leases(store=store)
        first = leases.take(BOARD, "r1")
        assert leases.take(BOARD, "r2") is None
        again = leases.take(BOARD, "r1")
        assert [first.left, again.left] == [False, False]
        assert again.fence > first.fence
        assert not leases.beat([first])


def test_a_board_of_a_process_of_this_machine_that_has_ended_is_free_at_once(tmp_path):
    code = "from bench.owner import this_process; print(this_process().text)"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    dead = parse(text)
    assert dead is not None
    assert has_ended(dead)
    namesake = replace(dead, kernel="another-boot:1")  # a machine of the same name, or another container
    for owner, free in ((dead, True), (namesake, False), (replace(dead, kernel=""), False), (this_process(), False)):
        with Store.open(tmp_path / f"{free}-{owner.kernel[:3]}-{owner.pid}.db") as store:
            theirs = Leases(store=Store(engine=store.engine, where=store.where, owner=owner))
            assert theirs.take(BOARD, "r1")
            taken = Leases(store=store).take(BOARD, "r2")
            assert bool(taken) is free
            assert taken is None or taken.left


def test_an_owner_of_an_older_pressbench_is_still_read():
    old = Owner(host="laptop-2", pid=2, started=1.0)
    assert parse('{"host": "laptop-2", "pid": 2, "started": 1.0}') == old
    assert parse(this_process().text) == this_process()
