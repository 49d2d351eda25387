"""What a history takes from records, and how the store keeps it: read again only where a record or the code changed."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from fake_records import on, run, suite
from nights import cell, fill, history, night, quiet
from sqlalchemy import update

from bench.errors import InvalidInput, Unavailable
from bench.records import Launch, Quality
from bench.regress import figures
from bench.regress.figures import digest_samples, read_figures, take
from bench.report.table import compute_row
from bench.store import Store
from bench.store.kept_figures import Seen, pack_figures, unpack_figures
from bench.store.schema import FIGURES


@pytest.fixture
def store():
    with Store.open("sqlite:///:memory:") as opened:
        yield opened


def read(store):
    return list(read_figures(store, store.runs()))


def find(of, metric):
    """The values of a metric, one a cell."""
    named = zip(of.layout.figures, of.measured.values, strict=True)
    return [value for (_, name, _, _), value in named if name == metric]


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
    assert find(first[2][1], "accuracy") == [float("inf")]


def test_a_record_that_was_added_since_is_read(store):
    fill(store, history(quiet(2)))
    read(store)
    store.add(cell(night(1), 2.0))
    assert find(read(store)[1][1], "latency") == pytest.approx([2.0], rel=1e-3)


def test_what_other_code_made_does_not_count(store, monkeypatch):
    fill(store, history(quiet(2)))
    monkeypatch.setattr(figures, "digest_code", lambda: "older")
    monkeypatch.setattr(figures, "measure", lambda _: ())
    assert read(store)[0][1].measured.values == ()
    monkeypatch.undo()
    assert read(store)[0][1].measured.values != ()


def test_damaged_ones_are_made_again(store):
    fill(store, history(quiet(2)))
    first = read(store)
    with store.engine.begin() as connection:
        connection.execute(update(FIGURES).values(body=b"x"))
    assert read(store) == first


def test_kept_nights_share_what_they_have_alike_and_are_read_as_they_were(store):
    fill(store, history(quiet(3)))
    read(store)
    nights = [one for _, one in read(store)]
    assert nights[0].layout is nights[2].layout
    assert nights[0].state is nights[2].state
    for one in nights:
        assert unpack_figures(pack_figures(one), "here", Seen()) == one


@pytest.mark.parametrize("changes", [{"samples": ()}, {"samples": ("a", "b")}, {"values": ()}, {"values": (1.0,) * 9}])
def test_columns_that_do_not_fit_each_other_are_damaged(changes):
    one = figures.take_all(night(0), [cell(night(0), 1.0)])
    object.__setattr__(one, "measured", replace(one.measured, **changes))
    with pytest.raises(InvalidInput, match="here is damaged"):
        unpack_figures(pack_figures(one), "here", Seen())


def test_a_run_that_goes_on_is_not_kept(store):
    store.begin_run(night(0))
    store.add(cell(night(0), 1.0))
    assert read(store)[0][0].status == "running"
    assert store.figures([night(0).run_id], figures.digest_code(), Seen()) == {}


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


def test_all_code_that_takes_figures_counts_as_code_that_made_them():
    found = Path(figures.__file__).read_text(encoding="utf-8")
    used = {node.module or "" for node in ast.walk(ast.parse(found)) if isinstance(node, ast.ImportFrom)}
    files = {name.removeprefix("bench.").replace(".", "/") for name in used if name.startswith("bench.")} - {"errors"}
    covered = {one.removesuffix(".py") for one in figures.CODE}
    assert {name for name in files if name not in covered and name.partition("/")[0] not in covered} == set()
