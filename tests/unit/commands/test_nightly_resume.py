"""Which interrupted run a night continues: one of the code that runs now."""

from __future__ import annotations

from pathlib import Path

import pytest
from nights import night

import bench
from bench.commands.nights.nightly import has_interrupted
from bench.line.plan import Request
from bench.machine import revision
from bench.store import Store

NOW = {"version": bench.__version__, "revision": revision(Path(bench.__file__).parent)}


@pytest.mark.parametrize(
    ("changes", "continued"),
    [
        ({"status": "interrupted", **NOW}, True),
        ({"status": "finished", **NOW}, False),
        ({"status": "interrupted", **NOW, "revision": "another"}, False),
        ({"status": "interrupted", **NOW, "version": "0.0"}, False),
    ],
)
def test_an_interrupted_run_of_other_code_is_left_and_another_begun(changes, continued, tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        store.begin_run(night(0, **{**changes, "status": "running"}))
        store.finish_run(night(0).run_id, changes["status"], night(0).finished_at)
    assert has_interrupted(Request(target="cpu", suite="s"), tmp_path, None) is continued
