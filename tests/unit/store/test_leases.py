"""Laws of leases; they hold for SQLite and for a real PostgreSQL server."""

from __future__ import annotations

import threading
import time

import pytest
from fake_records import record, run
from sqlalchemy import create_engine, select, update

from bench.errors import InvalidInput, LeaseLost
from bench.owner import Owner
from bench.store import Leases, Note, Offer, Store
from bench.store.connect import connect
from bench.store.leases import now_in
from bench.store.schema import BOARDS, METADATA

BOTH = [Offer(place=f"ssh:{name}", name=name, sku="orin") for name in ("a", "b")]
RUN = run().run_id


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where an empty store can be opened."""
    if request.param == "sqlite":
        return str(tmp_path / "pressbench.db")
    url = request.getfixturevalue("postgres_url")
    engine, _ = connect(url)
    METADATA.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def store(place):
    with Store.open(place) as opened:
        yield opened


@pytest.fixture
def leases(store):
    return Leases(store=store)


def other(store: Store, pid: int = 2, **changes) -> Leases:
    """The leases as a process of another host has them."""
    owner = Owner(host="laptop-2", pid=pid, started=1.0)
    return Leases(store=Store(engine=store.engine, where=store.where, owner=owner), **changes)


def pass_time(store: Store, seconds: float) -> None:
    """As if the leases were so much older."""
    with store.engine.begin() as connection:
        connection.execute(update(BOARDS).values(ends_at=BOARDS.c.ends_at - seconds))


def test_each_board_has_one_holder_and_a_released_one_is_free_again(store, leases):
    first, second = leases.take(BOTH, "r1"), other(store).take(BOTH, "r2")
    assert (first.place, second.place) == ("ssh:a", "ssh:b")
    assert leases.take(BOTH, "r3") is None
    leases.release(first)
    assert other(store).take(BOTH, "r2").place == "ssh:a"


def test_a_board_has_one_holder_by_whatever_name_its_fleets_call_it(store, leases):
    assert leases.take(BOTH[:1], "r1")
    again = Offer(place="ssh:a", name="another-name", sku="orin-nano")
    assert other(store).take([again], "r2") is None


def test_of_many_who_ask_at_once_each_board_goes_to_one(store):
    taken: list = []
    asking = [other(store, pid=pid) for pid in range(1, 9)]
    start = threading.Barrier(len(asking))

    def ask(own):
        start.wait()
        taken.append(own.take(BOTH, "r"))

    threads = [threading.Thread(target=ask, args=(own,)) for own in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.place for lease in taken if lease) == ["ssh:a", "ssh:b"]
    assert taken.count(None) == len(asking) - 2


def test_a_heartbeat_keeps_a_board_and_without_one_the_next_takes_it_with_a_higher_number(store, leases):
    lease = leases.take(BOTH[:1], "r1")
    pass_time(store, 50)
    assert leases.beat([lease]) == {lease}
    pass_time(store, 50)
    assert other(store).take(BOTH[:1], "r2") is None
    pass_time(store, 11)
    later = other(store).take(BOTH[:1], "r2")
    assert later.fence > lease.fence
    assert not leases.beat([lease])
    assert not leases.note(lease, Note(doing="still here"))
    leases.release(lease)
    assert leases.take(BOTH[:1], "r3") is None


def test_all_leases_of_a_process_are_kept_at_once_and_one_that_was_lost_is_named(store, leases):
    first, second = leases.take(BOTH, "r1"), leases.take(BOTH, "r2")
    pass_time(store, 50)
    leases.release(first)
    assert leases.beat([first, second]) == {second}
    pass_time(store, 50)
    assert other(store).take(BOTH, "r3").place == first.place
    assert other(store).take(BOTH, "r4") is None


def test_a_holder_that_hung_and_wakes_up_cannot_write_over_the_next_one(store, leases):
    store.begin_run(run())
    hung = leases.take(BOTH[:1], RUN)
    store.add(record(reasons=("before",)), hung)
    pass_time(store, 61)
    store.add(record(reasons=("late, and nobody took it",)), hung)
    pass_time(store, 61)
    later = other(store).take(BOTH[:1], RUN)
    store.add(record(reasons=("by the next",)), later)
    with pytest.raises(LeaseLost, match=r"the lease of ssh:a \(number 1\) ended, and the board was given on"):
        store.add(record(reasons=("by the one that woke up",)), hung)
    assert [cell.reasons for cell in store.records()] == [("by the next",)]
    other(store).release(later)
    with pytest.raises(LeaseLost):
        store.add(record(reasons=("after its release",)), later)


def test_the_clocks_of_hosts_play_no_part(store, leases, monkeypatch):
    lease = leases.take(BOTH[:1], "r1")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert other(store).take(BOTH[:1], "r2") is None
    assert leases.beat([lease]) == {lease}
    assert leases.clock() > 1.7e9


def test_the_clock_is_that_of_the_statement_and_not_of_its_transaction(store):
    with store.engine.begin() as connection:
        first = connection.scalar(select(now_in(connection)))
        time.sleep(0.02)
        assert connection.scalar(select(now_in(connection))) > first


def test_what_a_board_does_and_what_took_it_out_can_be_seen(store, leases):
    lease = leases.take(BOTH[:1], "r1")
    leases.note(lease, Note(doing="lenet5 / int8", hottest_c=61.5))
    leases.judge(lease, "throttled: under-voltage")
    (seen,) = leases.boards()
    assert (seen.name, seen.sku, seen.run_id, seen.doing, seen.hottest_c) == ("a", "orin", "r1", "lenet5 / int8", 61.5)
    assert seen.trouble == "throttled: under-voltage"
    assert 0 < seen.left_s <= 60
    leases.judge(lease, "")
    pass_time(store, 61)
    (seen,) = leases.boards()
    assert (seen.owner, seen.run_id, seen.doing, seen.trouble, seen.left_s) == ("", "", "", "", 0.0)


def test_the_queue_has_the_runs_that_go_on_and_when_they_end_at_their_pace(store, leases):
    store.begin_run(run())
    leases.enqueue(RUN, sku="orin", boards=2, cells=10, done=4)
    assert [(one.cells, one.done, one.ends_in_s) for one in leases.queue()] == [(10, 4, None)]
    lease = leases.take(BOTH[:1], RUN)
    store.add(record(key="one"), lease, Note(doing="lenet5 / int8", hottest_c=61.5, done=7))
    store.add(record(key="other"), lease, Note(done=6))  # of a thread that was overtaken
    (going,) = leases.queue()
    assert going.done == 7
    assert going.ends_in_s is not None
    (seen,) = leases.boards()
    assert (seen.doing, seen.hottest_c) == ("", 61.5)  # a cell that shows no heat leaves the last
    store.finish_run(RUN, "finished", "later")
    assert leases.queue() == []


def test_a_database_whose_clock_is_unknown_is_refused():
    class Connection:
        dialect = create_engine("sqlite://").dialect.__class__()

    Connection.dialect.name = "oracle"
    with pytest.raises(InvalidInput, match="a fleet keeps its leases in sqlite or postgresql, not in oracle"):
        now_in(Connection())
