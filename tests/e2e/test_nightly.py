"""`pressbench nightly` on a network that grows: two nights, their exit codes, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import CommandLine

from bench.commands.nights.nightly import LOCK, one_night
from bench.store import Store

NETWORK = """
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(1, {channels}, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * {channels}, 10))
"""
SUITE = """
name = "small"
models = ["net:build"]
inputs = ["input=N,1,8,8"]
[recipes]
baseline = ""
[measure]
launches = 1
pairs = 0
warmup_s = 0.01
time_s = 0.02
max_samples = 30
profile_runs = 0
"""


def command_in(folder: Path) -> CommandLine:
    """The command line in a folder, with a cache there."""
    return CommandLine(folder=folder, environment={**os.environ, "PRESSBENCH_CACHE": str(folder / "cache")})


@pytest.fixture
def nightly(tmp_path: Path):
    """A night of a network of so many channels: exit code, answer, messages."""
    command = command_in(tmp_path)
    (tmp_path / "small.toml").write_text(SUITE)

    def run(channels: int, *arguments: str):
        (tmp_path / "net.py").write_text(NETWORK.format(channels=channels))
        done = command("nightly", "--suite", "small.toml", "--results", "nights", "--json", *arguments)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    return run


def test_a_night_whose_network_grew_fails_and_leaves_no_lock(nightly, tmp_path):
    code, first, errors = nightly(4)
    assert (code, first["failed"], len(first["runs_tonight"])) == (0, 0, 1), errors
    code, second, errors = nightly(64, "--again", "1")
    assert code == 1, errors
    series = " ".join(alarm["series"] for alarm in second["alarms"])
    assert "net:build" in series
    assert any("1 of 1 changed files were run beside their last good ones" in note for note in second["night_notes"])
    results = tmp_path / "nights"
    assert not (results / LOCK).exists()
    page = (results / "dashboard.html").read_text()
    assert 'class="alarm">regression, +' in page
    with Store.open(results / "pressbench.db") as store:
        kept = {record.digest for record in store.records()}
        (again,) = store.remeasured()
        nights = [f"nights/{run.run_id}" for run in store.runs()]
    assert {again.good, again.tonight} == kept
    assert again.pairs
    done = command_in(tmp_path)("compare", *nights, "--launches", "3", "--json")
    (row,) = json.loads(done.stdout)["cells"]
    assert (done.returncode, row["way"], row["verdict"]) == (0, "side by side", "slower"), done.stderr


def test_a_last_good_file_that_was_deleted_is_said_and_ends_no_night(nightly, tmp_path):
    nightly(4)
    shutil.rmtree(tmp_path / "nights" / "artifacts")
    code, second, errors = nightly(16, "--again", "20", "--fail-on", "nothing")
    assert code == 0, errors
    (latency,) = (alarm for alarm in second["alarms"] if alarm["metric"] == "latency")
    assert latency["kind"] == "inconclusive"
    assert latency["why"].endswith("is gone: it was deleted, or never kept")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "cpu", "--target", "cpu"), "is given twice"),
        (("--again", "-1"), "--again -1: give seconds"),
        (("--fail-on", "nothing", "--fail-on", "missing"), "--fail-on nothing stands by itself"),
    ],
)
def test_options_that_cannot_be_used_end_the_night_before_it_begins(nightly, arguments, said, tmp_path):
    code, _, errors = nightly(4, *arguments)
    assert code == 2
    assert said in errors
    assert not (tmp_path / "nights").exists()


def test_two_nights_never_work_on_one_folder(nightly, tmp_path):
    with one_night(tmp_path / "nights"):
        code, _, errors = nightly(4)
    assert code == 3
    assert "another `pressbench nightly` is at work" in errors


def test_a_night_that_measures_nothing_fails_and_says_so(tmp_path):
    (tmp_path / "small.toml").write_text(SUITE)
    (tmp_path / "net.py").write_text("def build():\n    raise RuntimeError('gone')\n")
    done = command_in(tmp_path)("nightly", "--suite", "small.toml", "--results", "nights", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    assert answer["without_run"] == {"cpu": "no cell could be measured; column `reason` of cells.csv says why"}
    assert len(answer["runs_tonight"]) == 1


def test_annotations_beside_json_are_refused(nightly):
    code, _, errors = nightly(4, "--github")
    assert code == 2
    assert "--github prints annotations" in errors
