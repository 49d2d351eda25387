"""`pressbench run --fleet` against real OpenSSH servers on loopback: boards that share, that die, that are compared."""

from __future__ import annotations

import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import sshd
from command_line import CommandLine
from needs import lacking

from bench.reach.ssh.reach import Ssh

SUITE = """
name = "tiny"
data = "digits"
models = ["lenet300_100(width=0.1)"]
[recipes]
half = "prune(amount=0.5)"
[measure]
launches = 1
pairs = 1
blocks = 5
time_s = 0.05
warmup_s = 0.02
profile_runs = 0
"""


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    """Two boards that answer."""
    if reason := sshd.missing():
        lacking("sshd", reason)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(sshd.running(tmp_path_factory.mktemp(name) / "double")) for name in ("one", "two")
        }


@pytest.fixture
def pressbench(doubles, cache: Path, tmp_path: Path) -> CommandLine:
    (tmp_path / "tiny.toml").write_text(SUITE)
    (tmp_path / "board.toml").write_text('name = "board"\nreach = "ssh"\n[[backend]]\nname = "ort"\n')
    kept = ("host", "ssh_config", "folder", "root", "python")
    boards = [
        f'[boards.{name}]\nsku = "double"\ntarget = "board.toml"\n'
        + "\n".join(line for line in double.target().splitlines() if line.startswith(kept))
        for name, double in doubles.items()
    ]
    (tmp_path / "fleet.toml").write_text("\n".join(boards) + "\n")
    environment = {**os.environ, "PRESSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("PRESSBENCH_HOST", None)
    return CommandLine(folder=tmp_path, environment=environment)


def run(*more: str) -> list[str]:
    return ["run", "--fleet", "fleet.toml", "--sku", "double", "--suite", "tiny.toml", "--results", "out", *more]


def rows(pressbench: CommandLine) -> list[dict[str, str]]:
    with (pressbench.folder / "out" / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_board_that_dies_mid_cell_gives_it_to_the_other_and_the_status_says_so(pressbench, doubles, monkeypatch):
    monkeypatch.setattr("bench.reach.ssh.link.PATIENCE_S", 0.5)
    monkeypatch.setattr("bench.reach.ssh.link.GONE_S", 0.5)
    real, died = Ssh.run, []

    def unplugged(self, job, *given):
        port = int(self._board.address.rpartition(":")[2])
        (name,) = (name for name, double in doubles.items() if double.port == port)
        if job.task == "compare" and not died:
            died.append(name)
            doubles[name].stop()
        return real(self, job, *given)

    monkeypatch.setattr(Ssh, "run", unplugged)
    done = pressbench(*run("--json"))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert died
    assert list(answer["alarms"]) == died
    assert answer["left"] == 0
    assert "failed" not in answer["counts"], [row["reason"] for row in rows(pressbench)]
    (left,) = {"one", "two"} - set(died)
    measured = [(row["recipe"], row["device"].partition(" (")[0]) for row in rows(pressbench)]
    assert sorted(measured) == sorted([("baseline", died[0]), ("baseline", left), ("half", left)])
    assert f"board {died[0]} was taken out" in done.stderr
    status = json.loads(pressbench("fleet", "status", "--fleet", "fleet.toml", "--results", "out", "--json").stdout)
    states = {board["name"]: board["state"] for board in status["boards"]}
    assert states == {died[0]: "out", left: "free"}
    shown = pressbench("fleet", "status", "--results", "out")
    assert "No run goes on." in shown.stdout
    doubles[died[0]].start()


def test_a_fleet_that_cannot_be_used_as_asked_is_refused_before_anything_is_stored(pressbench):
    for arguments, words in (
        (["--fleet", "fleet.toml"], "name the kind of board to measure on, --sku (known: double)"),
        (["--fleet", "fleet.toml", "--sku", "dubble"], "did you mean 'double'?"),
        (["--fleet", "none.toml", "--sku", "double"], "no such file"),
        (["--sku", "double"], "--sku chooses boards of a fleet: name its file too"),
        (["--each"], "--each chooses boards of a fleet: name its file too"),
        (["--fleet", "fleet.toml", "--sku", "double", "--target", "cpu"], "--target cpu beside --fleet"),
    ):
        done = pressbench("run", *arguments, "--suite", "tiny.toml", "--results", "out")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    assert not (pressbench.folder / "out").exists()


def test_a_suite_asks_for_its_boards_by_sku(pressbench):
    path = pressbench.folder / "tiny.toml"
    path.write_text(path.read_text().replace('name = "tiny"', 'name = "tiny"\nsku = "double"\neach = true'))
    done = pressbench("run", "--suite", "tiny.toml", "--target", "cpu", "--results", "out")
    assert done.returncode == 2
    assert "asks for boards of SKU 'double': name the file that lists them, --fleet fleet.toml" in done.stderr
    done = pressbench(
        "run",
        "--suite",
        "tiny.toml",
        "--fleet",
        "fleet.toml",
        "--recipe",
        "baseline",
        "--batch",
        "1",
        "--results",
        "out",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["alarms"] == {}
    assert sum(answer["counts"].values()) == 2
    assert {row["device"].partition(" (")[0] for row in rows(pressbench)} == {"one", "two"}
    if set(answer["counts"]) <= {"ok", "inconclusive"}:
        (spread,) = answer["spread"]
        assert [unit["board"] for unit in spread["units"]] == ["one", "two"]


def test_a_night_over_the_fleet_with_one_board_unplugged_ends_and_says_what_is_missing(
    pressbench, doubles, monkeypatch
):
    monkeypatch.setattr("bench.reach.ssh.link.PATIENCE_S", 0.5)
    monkeypatch.setattr("bench.reach.ssh.link.GONE_S", 0.5)
    (pressbench.folder / "night.toml").write_text(SUITE.replace('half = "prune(amount=0.5)"', 'baseline = ""'))
    night = ["nightly", "--fleet", "fleet.toml", "--sku", "double", "--each", "--suite", "night.toml"]
    night += ["--results", "nights", "--again", "0", "--json"]
    done = pressbench(*night)
    first = json.loads(done.stdout)
    assert (done.returncode, first["failed"], first["night_notes"]) == (0, 0, []), done.stderr
    doubles["two"].stop()
    try:
        done = pressbench(*night)
    finally:
        doubles["two"].start()
    second = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert {alarm["kind"] for alarm in second["alarms"]} == {"missing"}
    assert all(" on two" in alarm["series"] for alarm in second["alarms"])
    assert any("board two was taken out" in note for note in second["night_notes"])
    assert any("cells without a board: 1; the night is over without them" in note for note in second["night_notes"])
    page = (pressbench.folder / "nights" / "dashboard.html").read_text()
    assert '<span class="chip failed">out</span>' in page
