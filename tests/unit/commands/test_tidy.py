"""What a night tidies: raw samples of old runs, once; kept files that no recent night has."""

from __future__ import annotations

import pytest
from nights import cell, fill, night
from sqlalchemy import text

from bench.commands.nights.nightly import Wishes, tidy
from bench.records import Launch
from bench.store import Store

WISHES = Wishes(targets=("cpu",), suite="s", keep_samples=2)


def raw(number: int, digest: str = "file"):
    """A night of one cell with 300 samples."""
    one = night(number)
    return one, [cell(one, None, launches=(Launch(samples_ns=tuple(range(number, number + 300))),), digest=digest)]


@pytest.fixture
def store():
    with Store.open("sqlite:///:memory:") as opened:
        fill(opened, [raw(number) for number in range(5)])
        yield opened


def count_samples(store):
    return [len(record.launches[0].samples_ns) for record in store.records()]


def test_old_runs_are_thinned_and_then_not_read_again(store, tmp_path, monkeypatch):
    assert tidy(store, WISHES, tmp_path) == ["raw samples of 3 cells older than 2 runs were thinned to quantiles"]
    assert count_samples(store) == [101, 101, 101, 300, 300]
    assert tidy(store, WISHES, tmp_path) == []
    tidy(store, WISHES, tmp_path)
    monkeypatch.setattr(Store, "records", lambda *_: pytest.fail("records were read"))
    assert tidy(store, WISHES, tmp_path) == []


def test_a_record_that_came_since_is_thinned_too(store, tmp_path):
    for _ in range(3):
        tidy(store, WISHES, tmp_path)
    (_, (late,)) = raw(1)
    store.add(late)
    assert count_samples(store) == [101, 300, 101, 300, 300]
    assert len(tidy(store, WISHES, tmp_path)) == 1
    assert count_samples(store) == [101, 101, 101, 300, 300]


def test_the_files_of_the_newest_30_nights_stay_however_few_keep_their_samples(store, tmp_path):
    fill(store, [raw(number, digest=f"{number}") for number in range(5, 36)])
    for digest in ("file", "5", "6", "35"):
        (tmp_path / "artifacts" / digest).mkdir(parents=True)
    assert "2 kept files that no recent night has were removed" in tidy(store, WISHES, tmp_path)
    assert sorted(one.name for one in (tmp_path / "artifacts").iterdir()) == ["35", "6"]


def test_a_damaged_run_does_not_end_the_night(store, tmp_path):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE cells SET body = substr(body, 1, 20) WHERE run_id = 'night-001-cpu'"))
    assert tidy(store, WISHES, tmp_path) == ["raw samples of 2 cells older than 2 runs were thinned to quantiles"]
