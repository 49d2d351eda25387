"""Laws of the store; they hold for SQLite and for a real PostgreSQL server."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_records import record, run, suite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from bench.errors import InvalidInput, Unavailable
from bench.owner import Owner, lives, this_process
from bench.records import ColdStart, Execution, Launch, LayerTime, MemoryPhase, PairLaunch, Quality, Record
from bench.store import Remeasured, Store, Triage
from bench.store.codec import RECORD_VERSION, pack_record, unpack_record
from bench.store.connect import connect, explain_error
from bench.store.schema import METADATA, SCHEMA_VERSION
from bench.types import Clock, Conditions, Cost, LayerCost, Precision, Simulation, Status

V1 = Path(__file__).parents[2] / "golden" / "store_schema_1.sql"
GONE = Owner(host=this_process().host, pid=this_process().pid, started=1.0)
"""A process whose id somebody else has now."""


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where an empty store can be opened."""
    if request.param == "sqlite":
        return str(tmp_path / "new" / "folder" / "pressbench.db")
    url = request.getfixturevalue("postgres_url")
    engine, _ = connect(url)
    METADATA.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def store(place):
    with Store.open(place) as opened:
        yield opened


def as_owner(store: Store, owner: Owner, now=lambda: datetime.now(UTC)) -> Store:
    """The same store as another process would hold it."""
    return Store(engine=store.engine, where=store.where, owner=owner, now=now)


def test_what_is_read_equals_what_was_added_in_the_order_it_was_added(store):
    cells = suite()
    store.begin_run(run())
    for cell in cells:
        store.add(cell)
    assert store.records() == cells
    assert store.records("20261122-101500-cpu") == cells
    assert store.records("another") == []


def test_a_store_outlives_the_process_that_wrote_it(place):
    with Store.open(place) as first:
        first.begin_run(run())
        first.add(record())
        first.finish_run(run().run_id, "finished", run().finished_at)
    with Store.open(place) as second:
        assert second.records() == [record()]
        assert second.runs() == [run()]


def test_adding_a_cell_again_replaces_it(store):
    store.begin_run(run())
    store.add(record(status=Status.FAILED, reasons=("killed",)))
    store.add(record())
    assert store.records() == [record()]
    assert store.done_keys(run().run_id) == {"cell"}


def test_runs_come_by_their_start_whatever_the_order_they_were_noted_in(store):
    for run_id, started in (("b", "2026-02"), ("c", "2026-03"), ("a", "2026-01")):
        store.begin_run(run(run_id, started_at=started))
        store.add(record(run_id))
    assert [r.run_id for r in store.runs()] == ["a", "b", "c"]
    assert [r.run_id for r in store.records()] == ["a", "b", "c"]


@pytest.mark.parametrize("another", [False, True])
def test_a_store_whose_file_was_deleted_or_replaced_takes_nothing_more(tmp_path, another):
    """SQLite goes on with the file that it has open: a run of hours ended with exit code 0 and was nowhere."""
    file = tmp_path / "pressbench.db"
    with Store.open(file) as opened:
        opened.begin_run(run())
        opened.add(record(run().run_id))
        file.unlink()
        if another:
            Store.open(file).close()
        with pytest.raises(Unavailable, match=r"pressbench.db was deleted or moved, or another file was put"):
            opened.add(record(run().run_id, key="2"))


def test_a_store_whose_folder_was_moved_takes_nothing_more(tmp_path):
    """With a file of the folder's name it was a raw NotADirectoryError."""
    folder = tmp_path / "results"
    with Store.open(folder / "pressbench.db") as opened:
        opened.begin_run(run())
        folder.rename(tmp_path / "earlier")
        folder.write_text("a file")
        with pytest.raises(Unavailable, match=r"pressbench.db was deleted or moved, or another file was put"):
            opened.add(record(run().run_id))


def test_a_folder_whose_name_is_not_utf_8_holds_a_store(tmp_path):
    """SQLite's own list of its files could not be read, and the reason for that had no name."""
    file = tmp_path / os.fsdecode(b"caf\xe9") / "pressbench.db"
    with Store.open(file) as opened:
        opened.begin_run(run())
        file.unlink()
        with pytest.raises(Unavailable, match=r"was deleted or moved"):
            opened.add(record(run().run_id))


def test_an_error_of_sqlite_without_a_name_is_explained():
    cause = sqlite3.OperationalError("Could not decode to UTF-8 column")
    found = explain_error(OperationalError("SELECT 1", {}, cause), "p.db")
    assert str(found) == "p.db: Could not decode to UTF-8 column"


def test_a_cell_of_a_run_nobody_began_is_refused(store):
    with pytest.raises(InvalidInput, match="no run 'ghost'"):
        store.add(record("ghost"))
    with pytest.raises(InvalidInput, match="no run 'ghost'"):
        store.finish_run("ghost", "finished", "")


def test_a_run_of_this_process_is_running_and_not_offered_to_resume(store):
    store.begin_run(run())
    assert [r.status for r in store.runs()] == ["running"]
    assert store.last_interrupted("cpu", "default") is None


def test_a_run_whose_process_is_gone_is_interrupted_and_offered_to_resume(store):
    as_owner(store, GONE).begin_run(run())
    assert [r.status for r in store.runs()] == ["interrupted"]
    found = store.last_interrupted("cpu", "default")
    assert found is not None
    assert found.run_id == run().run_id


def test_the_last_interrupted_run_is_of_the_target_and_suite_asked_for(store):
    for run_id, target, status in (
        ("1", "cpu", "interrupted"),
        ("2", "cpu", "finished"),
        ("3", "jetson", "interrupted"),
    ):
        store.begin_run(run(run_id, target=target, started_at=f"2026-0{run_id}"))
        store.finish_run(run_id, status, "later")
    found = store.last_interrupted("cpu", "default")
    assert found is not None
    assert found.run_id == "1"
    assert store.last_interrupted("cpu", "smoke") is None


def test_an_interrupted_search_is_not_continued_as_a_run(store):
    """`run --suite search --resume` measured the suite `default` in it, and `search --resume` did not find it any more."""
    store.begin_run(replace(run("1", started_at="2026-01"), suite="search", request={"suite": "default", "search": {}}))
    store.finish_run("1", "interrupted", "later")
    assert store.last_interrupted("cpu", "search") is None


def test_a_resumed_run_belongs_to_the_one_who_resumed_it_and_keeps_its_cells(store):
    dead = as_owner(store, GONE)
    dead.begin_run(run())
    dead.add(record())
    store.begin_run(run())
    assert store.done_keys(run().run_id) == {"cell"}
    assert [r.status for r in store.runs()] == ["running"]


def test_a_run_that_a_living_process_is_at_cannot_be_taken_over(store):
    store.begin_run(run())
    other = Owner(host=store.owner.host, pid=1, started=1.0)
    with pytest.raises(Unavailable, match="still going on"):
        as_owner(store, other).begin_run(run())


def test_a_run_of_another_machine_is_going_on_until_it_has_been_silent_for_an_hour(store):
    far = Owner(host="another-machine", pid=1, started=1.0)
    as_owner(store, far).begin_run(run())
    assert [r.status for r in store.runs()] == ["running"]
    later = as_owner(store, store.owner, now=lambda: datetime.now(UTC) + timedelta(hours=2))
    assert [r.status for r in later.runs()] == ["interrupted"]


def test_a_run_on_a_fleet_of_another_machine_is_over_after_minutes_without_a_heartbeat(store):
    def pass_minutes(count):
        return as_owner(store, store.owner, now=lambda: datetime.now(UTC) + timedelta(minutes=count))

    far = Owner(host="another-machine", pid=1, started=1.0)
    as_owner(store, far).begin_run(replace(run(), request={"fleet": "fleet.toml"}))
    assert [one.status for one in pass_minutes(2).runs()] == ["running"]
    assert [one.status for one in pass_minutes(4).runs()] == ["interrupted"]
    store.touch_runs()  # of another process
    assert [one.status for one in pass_minutes(4).runs()] == ["interrupted"]
    as_owner(store, far, now=lambda: datetime.now(UTC) + timedelta(minutes=3)).touch_runs()
    assert [one.status for one in pass_minutes(4).runs()] == ["running"]


def test_a_process_id_used_again_is_not_the_process_that_had_it():
    assert lives(this_process()) is True
    assert lives(GONE) is False
    assert lives(Owner(host="another-machine", pid=1, started=1.0)) is None


def test_a_newer_schema_is_refused_naming_both_versions(place):
    with Store.open(place) as opened, opened.engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    with pytest.raises(InvalidInput, match=rf"99.*up to {SCHEMA_VERSION}"):
        Store.open(place)


def test_a_store_of_schema_1_is_brought_up_to_date_with_everything_it_had(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript(V1.read_text())
    old.close()
    with Store.open(path) as opened:
        assert [(r.run_id, r.status) for r in opened.runs()] == [
            ("20260831-090000-cpu", "finished"),
            ("20260901-090000-cpu", "interrupted"),
        ]
        assert [(r.run_id, r.key) for r in opened.records()] == [
            ("20260831-090000-cpu", "lenet5/baseline"),
            ("20260901-090000-cpu", "lenet5/baseline"),
            ("20260901-090000-cpu", "lenet5/int8"),
        ]
        assert len(opened.records()[0].launches[0].samples_ns) == 8
        opened.begin_run(run("20260901-090000-cpu"))
        opened.add(record("20260901-090000-cpu", key="lenet5/float16"))
    with sqlite3.connect(path) as new:
        assert new.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
    new.close()


def test_an_upgraded_store_has_the_tables_of_a_new_one(tmp_path):
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.executescript(V1.read_text())
    old.close()
    columns = {}
    for name in ("old.db", "new.db"):
        Store.open(tmp_path / name).close()
        with sqlite3.connect(tmp_path / name) as opened:
            columns[name] = {
                table: {row[1:4] for row in opened.execute(f"PRAGMA table_info({table})")} for table in METADATA.tables
            }
        opened.close()
    assert columns["old.db"] == columns["new.db"]


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE runs (x INTEGER)")
    other.close()
    with pytest.raises(InvalidInput, match="not a pressbench store"):
        Store.open(tmp_path / "other.db")


def test_a_new_file_another_process_is_creating_right_now_is_waited_for(tmp_path):
    path = tmp_path / "pressbench.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE begun (x)")
    end = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    end.start()
    with Store.open(path) as store:
        assert store.runs() == []
    end.join()
    other.close()


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database " * 100)
    with pytest.raises(InvalidInput, match=r"notes\.db is not a pressbench store"):
        Store.open(path)


def test_a_truncated_database_is_a_clear_error(tmp_path):
    path = tmp_path / "p.db"
    with Store.open(path) as opened:
        opened.begin_run(run())
        for index in range(20):
            opened.add(record(key=str(index), facts={"noise": os.urandom(2000).hex()}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidInput, match=r"p\.db is damaged"), Store.open(path) as opened:
        opened.records()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file"):
        Store.open(tmp_path / "file" / "p.db")


@pytest.mark.parametrize(("url", "error"), [("nonsense://x", Unavailable), ("://", InvalidInput)])
def test_an_impossible_url_is_a_users_error(url, error):
    with pytest.raises(error):
        Store.open(url)


def add_until_full(store: Store, stored: list[Record]) -> None:
    for index in range(1000):
        cell = record(key=str(index), facts={"noise": os.urandom(3000).hex()})
        store.add(cell)
        stored.append(cell)


def test_a_full_disk_is_a_clear_error_and_nothing_stored_is_lost(tmp_path):
    """The page limit makes SQLite answer exactly as on a disk without space."""
    with Store.open(tmp_path / "p.db") as opened:
        opened.begin_run(run())
        opened.engine.dispose()
        event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 40"))
        stored = []
        with pytest.raises(Unavailable, match="disk full"):
            add_until_full(opened, stored)
        assert len(stored) > 2
        assert opened.records() == stored
    with Store.open(tmp_path / "p.db") as later:
        later.add(record(key="after"))
        assert later.records() == [*stored, record(key="after")]


def test_a_record_of_a_newer_format_is_refused_naming_both_versions(monkeypatch):
    monkeypatch.setattr("bench.store.codec.RECORD_VERSION", RECORD_VERSION + 1)
    packed = pack_record(record())
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match=f"version {RECORD_VERSION + 1}, newer than the {RECORD_VERSION}"):
        unpack_record(packed, "p.db: run r, cell c")


@pytest.mark.parametrize("damage", [b"", b"x" * 50, pack_record(record())[:-9]])
def test_a_damaged_record_is_refused_by_name(damage):
    with pytest.raises(InvalidInput, match=r"p\.db: cell c is damaged"):
        unpack_record(damage, "p.db: cell c")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (
            "SQLITE_CANTOPEN",
            "p.db or its folder cannot be written (the cause), .* copy it to a folder that you can write to",
        ),
        ("SQLITE_READONLY_DIRECTORY", "cannot be written"),
        ("SQLITE_PROTOCOL", "p.db: the cause; SQLite needs a disk that locks files, .* or a server with --database"),
        ("SQLITE_IOERR_SHMMAP", "many network disks do not"),
    ],
)
def test_a_disk_that_sqlite_cannot_use_is_named_with_the_remedy(name, remedy):
    cause = sqlite3.OperationalError("the cause")
    cause.sqlite_errorname = name
    found = explain_error(OperationalError("SELECT 1", {}, cause), "p.db")
    assert isinstance(found, Unavailable)
    assert re.search(remedy.replace("(", r"\(").replace(")", r"\)"), str(found))


def test_a_name_that_is_not_utf_8_leaves_its_row_readable(store):
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x98\x80.onnx")
    store.begin_run(run(request={"models": [name]}))
    store.add(record(model=name))
    assert store.records()[0].model == "caf? \N{GRINNING FACE}.onnx"
    assert store.runs()[0].request == {"models": ["caf? \N{GRINNING FACE}.onnx"]}


@pytest.mark.parametrize("value", [object(), {1, 2}, "not a launch"])
def test_a_value_that_is_not_what_the_dataclass_says_is_refused_when_written(value):
    with pytest.raises(TypeError, match="cannot be written"):
        pack_record(record(facts={"x": value}) if not isinstance(value, str) else record(launches=(value,)))


NAMES = st.text(max_size=30)
INTEGERS = st.integers(-(2**63), 2**63)
FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
FACTS = st.dictionaries(NAMES, JSON, max_size=4)
COUNTS = st.integers(0, 2**62)
COUNT_ROWS = st.lists(COUNTS, max_size=5).map(tuple)
COSTS = st.builds(
    Cost,
    **dict.fromkeys(
        ("params", "nonzero_params", "macs", "nonzero_macs", "flops", "file_bytes", "weight_bytes"), COUNTS
    ),
    **dict.fromkeys(("activation_bytes", "peak_activation_bytes"), COUNTS),
    layers=st.lists(st.builds(LayerCost, name=NAMES, operator=NAMES, output_shape=COUNT_ROWS), max_size=2).map(tuple),
)
LAUNCHES = st.builds(
    Launch,
    samples_ns=COUNT_ROWS,
    waits_ns=COUNT_ROWS,
    load_ms=FLOATS,
    cold=st.none() | st.builds(ColdStart, start_ms=st.none() | FLOATS, runtime_ms=FLOATS, first_ms=FLOATS),
    memory=st.lists(
        st.builds(MemoryPhase, name=NAMES, start_bytes=COUNTS, peak_bytes=COUNTS, end_bytes=COUNTS), max_size=2
    ).map(tuple),
    device_memory=st.dictionaries(NAMES, COUNTS, max_size=2),
    facts=FACTS,
)
SOME_NAMES = st.lists(NAMES, max_size=3).map(tuple)
TALLIES = st.dictionaries(NAMES, COUNTS, max_size=2)
PRECISIONS = st.builds(
    Precision,
    asked=NAMES,
    delivered=NAMES,
    keep_float=SOME_NAMES,
    stayed_float=SOME_NAMES,
    from_file=st.booleans(),
)
EXECUTIONS = st.builds(
    Execution,
    **dict.fromkeys(("precision", "library", "mode", "device", "layout"), NAMES),
    **dict.fromkeys(("kernels", "multiplying", "operators", "not_delegated", "nodes_by_provider"), TALLIES),
    **dict.fromkeys(("delegated", "partitions"), st.none() | COUNTS),
    **dict.fromkeys(("sparse_layers", "converted_outside"), SOME_NAMES),
)
RECORDS = st.builds(
    Record,
    **dict.fromkeys(("run_id", "key", "started_at", "target", "device", "backend", "backend_version"), NAMES),
    **dict.fromkeys(("model", "recipe", "recipe_text", "digest", "data", "baseline_key"), NAMES),
    conditions=st.builds(Conditions, batch=COUNTS, threads=COUNTS, device=NAMES),
    status=st.sampled_from(Status),
    clock=st.sampled_from(Clock),
    reasons=st.lists(NAMES, max_size=3).map(tuple),
    cost=st.none() | COSTS,
    precision=st.none() | PRECISIONS,
    execution=st.none() | EXECUTIONS,
    launches=st.lists(LAUNCHES, max_size=2).map(tuple),
    pairs=st.lists(
        st.builds(PairLaunch, blocks_ns=st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), max_size=3).map(tuple)),
        max_size=2,
    ).map(tuple),
    quality=st.none() | st.builds(Quality, samples=COUNTS, accuracy=st.none() | FLOATS),
    simulation=st.none() | st.builds(Simulation, source=NAMES, layers=st.lists(FACTS, max_size=2).map(tuple)),
    profile=st.lists(st.builds(LayerTime, name=NAMES, operator=NAMES, mean_us=FLOATS, runs=COUNTS), max_size=2).map(
        tuple
    ),
    missing=st.dictionaries(NAMES, NAMES, max_size=3),
    facts=FACTS,
)


@given(RECORDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_record_reads_back_as_it_was_written(cell):
    assert unpack_record(pack_record(cell), "here") == cell


def test_not_a_number_is_kept_and_not_turned_into_nothing():
    found = unpack_record(pack_record(record(quality=Quality(samples=1, accuracy=float("nan")))), "here").quality
    assert found is not None
    assert found.accuracy is not None
    assert found.accuracy != found.accuracy


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_stays_secret():
    pytest.importorskip("psycopg", reason="pip install 'pressbench[postgres]'")
    with pytest.raises(Unavailable, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/bench") as caught:
        Store.open("postgresql://me:secret@127.0.0.1:1/bench")
    assert "secret" not in str(caught.value)


def decision(**changes):
    base = {"alarm": "1a2b", "series": "cpu / ort", "kind": "regression", "run_id": "r", "state": "expected"}
    return Triage(**base | {"note": "", "changed_at": "2026-01-01"} | changes)


def test_a_decision_about_an_alarm_is_kept_and_replaced(store):
    store.decide(decision(alarm="other", changed_at="2025-12-31"))
    store.decide(decision())
    store.decide(decision(state="acknowledged", note="<b>'; DROP TABLE runs"))
    assert [one.alarm for one in store.triage()] == ["other", "1a2b"]
    assert store.triage()[1].note == "<b>'; DROP TABLE runs"


def test_what_was_measured_again_is_kept_and_another_try_of_that_night_replaces_it(store):
    store.begin_run(run("r"))
    gone = Remeasured(run_id="r", key="k", cell="cpu / <b>", good="a", tonight="b", reason="it was deleted")
    store.add_remeasured(gone)
    assert store.remeasured() == [gone]
    pairs = (PairLaunch(blocks_ns=((1.0, 2.5, 2.5, 1.0),), waits_ns=((0, 1, 0, 2),)),)
    done = Remeasured(run_id="r", key="k", cell="cpu / <b>", good="a", tonight="b", threads=2, pairs=pairs)
    store.add_remeasured(done)
    assert store.remeasured() == [done]


def test_a_store_that_another_process_keeps_locked_is_named(tmp_path, monkeypatch):
    path = tmp_path / "pressbench.db"
    Store.open(path).close()
    monkeypatch.setattr("bench.store.connect.BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"pressbench\.db was locked by another process for 0\.05 s: try again"):
        Store.open(path)
    other.close()
