"""What a history takes from records, and how the store keeps it: read again only where a record or the code changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import on, run, suite
from nights import cell, fill, history, night, quiet
from sqlalchemy import update

from bench.errors import Unavailable
from bench.records import Launch, Quality
from bench.regress import figures
from bench.regress.figures import digest_samples, read_figures, take
from bench.report.table import compute_row
from bench.store import Store
from bench.store.schema import FIGURES


@pytest.fixture
def store():
    with Store.open("sqlite:///:memory:") as opened:
        yield opened


def read(store):
    return list(read_figures(store, store.runs()))


def forbid(monkeypatch):
    """From now on no record may be read."""
    monkeypatch.setattr(Store, "records", lambda *_: pytest.fail("records were read"))


def test_its_figures_are_those_of_the_csv():
    columns = {"latency": "latency_p50_ms", "memory": "memory_peak_bytes", "size": "file_bytes", "macs": "macs"}
    for record in suite():
        row = compute_row(record, None)
        found = {figure.metric: figure.value for figure in take(run(), record).figures}
        for metric, column in columns.items():
            if metric in found:
                assert found[metric] == row[column]
    assert {figure.metric for figure in take(run(), suite()[0]).figures} == {*columns, "accuracy"}


def test_what_was_read_once_is_not_read_again(store, monkeypatch):
    fill(store, history(quiet(3), quality=Quality(samples=9, accuracy=float("inf"))))
    first = read(store)
    forbid(monkeypatch)
    assert read(store) == first
    assert [figure.value for figure in first[2][1][0].figures if figure.metric == "accuracy"] == [float("inf")]


def test_a_record_that_was_added_since_is_read(store):
    fill(store, history(quiet(2)))
    read(store)
    store.add(cell(night(1), 2.0))
    (_, (one,)) = read(store)[1]
    assert {figure.metric: figure.value for figure in one.figures}["latency"] == pytest.approx(2.0, rel=1e-3)


def test_what_other_code_made_does_not_count(store, monkeypatch):
    fill(store, history(quiet(2)))
    monkeypatch.setattr(figures, "digest_code", lambda: "older")
    monkeypatch.setattr(figures, "measure", lambda _: ())
    assert read(store)[0][1][0].figures == ()
    monkeypatch.undo()
    assert read(store)[0][1][0].figures != ()


def test_damaged_ones_are_made_again(store):
    fill(store, history(quiet(2)))
    first = read(store)
    with store.engine.begin() as connection:
        connection.execute(update(FIGURES).values(body=b"x"))
    assert read(store) == first


def test_a_run_that_goes_on_is_not_kept(store):
    store.begin_run(night(0))
    store.add(cell(night(0), 1.0))
    assert read(store)[0][0].status == "running"
    assert store.figures(night(0).run_id, figures.digest_code()) is None


def test_a_store_that_cannot_be_written_is_read_all_the_same(store, monkeypatch):
    def refuse(*_, **__):
        tries.append(1)
        raise Unavailable("full")

    tries = []
    fill(store, history(quiet(3)))
    monkeypatch.setattr(Store, "keep_figures", refuse)
    assert len(read(store)) == 3
    assert tries == [1]


def test_samples_have_one_digest_in_every_process():
    record = on("ort", 1.0, launches=(Launch(samples_ns=(1, 2)),))
    assert digest_samples(record) == "475b1ef20b9da2c5"
    assert digest_samples(replace(record, launches=())) == ""
