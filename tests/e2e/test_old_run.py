"""A run that an older pressbench began and Ctrl-C interrupted: today's continues it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from old_store import INTERRUPTED, unpack_old_store

from bench.records import Record
from bench.report.page.execution_notes import describe_execution
from bench.store import Store

PRESSBENCH = str(Path(sys.executable).with_name("pressbench"))


def notes_of(record: Record) -> dict[str, str]:
    """What the page says ran, but for the times."""
    return {note.what: note.text for note in describe_execution(record) if note.what != "time"}


def test_resume_measures_what_is_left_under_the_same_keys(cache, tmp_path):
    database = unpack_old_store(tmp_path)
    with Store.open(database) as store:
        before = store.records(INTERRUPTED)
    arguments = (
        "run",
        "--target",
        "target.toml",
        "--suite",
        "suite.toml",
        "--results",
        "results",
        "--resume",
        "--json",
    )
    environment = {**os.environ, "PRESSBENCH_CACHE": str(cache)}
    done = subprocess.run(  # noqa: PLW1510 - its exit code is what is tested
        [PRESSBENCH, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["run_id"] == INTERRUPTED
    with Store.open(database) as store:
        after = {record.recipe: record for record in store.records(INTERRUPTED)}
        assert {run.run_id: run.status for run in store.runs()}[INTERRUPTED] == "finished"
    assert set(after) == {"baseline", "int8", "prune"}
    assert {record.recipe: record.key for record in before}.items() <= {r.recipe: r.key for r in after.values()}.items()
    assert next(record for record in before if record.recipe == "int8") == after["int8"], "measured then, and not again"
    then, now = (notes_of(found) for found in (next(r for r in before if r.recipe == "baseline"), after["baseline"]))
    assert then == now, "old and new records say in the same words what ran"
    assert after["prune"].baseline_key == after["baseline"].key
    assert after["prune"].pairs
