"""Which interrupted run a night continues: one of the code that runs now."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from nights import night

import bench
from bench.commands.nights.nightly import has_interrupted
from bench.commands.progress import watching
from bench.commands.run import run_suite
from bench.line.plan import Request, find_settings
from bench.line.run import Ended, Measured
from bench.machine import machine_facts, revision
from bench.records import SEARCH
from bench.store import Store

HERE = machine_facts(Path("/"))
NOW = {"version": bench.__version__, "revision": revision(Path(bench.__file__).parent), "machine": HERE}


@pytest.mark.parametrize(
    ("changes", "continued"),
    [
        ({"status": "interrupted", **NOW}, True),
        ({"status": "finished", **NOW}, False),
        ({"status": "interrupted", **NOW, "revision": "another"}, False),
        ({"status": "interrupted", **NOW, "version": "0.0"}, False),
        ({"status": "interrupted", **NOW, "machine": {**HERE, "cpu": "of a laptop"}}, False),
    ],
)
def test_an_interrupted_run_of_other_code_or_another_machine_is_left_and_another_begun(changes, continued, tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        store.begin_run(night(0, **{**changes, "status": "running"}))
        store.finish_run(night(0).run_id, changes["status"], night(0).finished_at)
    assert has_interrupted(Request(target="cpu", suite="s"), tmp_path, None) is continued


def test_a_search_on_a_suite_of_its_name_is_no_run_of_a_night(tmp_path):
    """A search that was interrupted was said to be continued, and one that came later hid the run that waits."""
    wanted = Request(target="cpu", suite="s")
    with Store.open(tmp_path / "pressbench.db") as store:
        store.begin_run(night(1, status="running", request={SEARCH: {}}, **NOW))
        store.finish_run(night(1).run_id, "interrupted", night(1).finished_at)
        assert not has_interrupted(wanted, tmp_path, None)
        store.begin_run(night(0, status="running", **NOW))
        store.finish_run(night(0).run_id, "interrupted", night(0).finished_at)
        store.finish_run(night(1).run_id, "finished", night(1).finished_at)
    assert has_interrupted(wanted, tmp_path, None)


SUITE, TARGET = 'name = "s"\nmodels = ["lenet5"]\n', 'name = "t"\n[[backend]]\nname = "ort"\n'


@pytest.fixture
def request_of_files(tmp_path) -> Request:
    """Of a suite and a target file of which the results hold an interrupted run."""
    suite, target = tmp_path / "suite.toml", tmp_path / "target.toml"
    suite.write_text(SUITE)
    target.write_text(TARGET)
    request = Request(target=str(target), suite=str(suite))
    begun = night(0, status="running", **NOW, target=str(target), suite=str(suite), settings=find_settings(request))
    with Store.open(tmp_path / "pressbench.db") as store:
        store.begin_run(replace(begun, request=asdict(request)))
        store.finish_run(begun.run_id, "interrupted", begun.finished_at)
    return request


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("target", TARGET, False),
        ("target", f'description = "the box on line 3"\n{TARGET}', False),
        ("target", f"pin = false\n{TARGET}", True),
        ("suite", f"{SUITE}[measure]\nlaunches = 9\n", True),
    ],
)
def test_an_interrupted_run_of_a_file_that_was_changed_is_left_by_a_night_and_noted_by_a_run(
    request_of_files, name, text, changed, tmp_path, monkeypatch
):
    (tmp_path / f"{name}.toml").write_text(text)
    assert has_interrupted(request_of_files, tmp_path, None) is not changed
    ended = Ended(run_id=night(0).run_id, counts={"ok": 1}, measured=Measured())
    monkeypatch.setattr("bench.commands.run.run", lambda *_, **__: ended)
    stream, options = io.StringIO(), {"url": None, "resume": True, "report": False}
    with watching(stream) as watch:
        run_suite(request_of_files, results=tmp_path, cache=tmp_path, watch=watch, **options)
    assert ("suite s or target t was changed after run" in stream.getvalue().replace("\n", " ")) is changed
