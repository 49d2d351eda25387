"""The commands on a board, against a real OpenSSH server on loopback: check, run, resume, clean."""

from __future__ import annotations

import csv
import json
import os
import shutil
from importlib import resources
from pathlib import Path

import pytest
import sshd
from command_line import CommandLine

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
time_s = 0.2
warmup_s = 0.1
profile_runs = 0
energy_s = 2.0
"""


@pytest.fixture
def pressbench(board, cache: Path, tmp_path: Path) -> CommandLine:
    (tmp_path / "tiny.toml").write_text(SUITE)
    rails = '[[backend]]\nname = "ort"\n'
    (tmp_path / "board.toml").write_text(f'{board.target()}meters = ["ina3221"]\n{rails}')
    environment = {**os.environ, "PRESSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return CommandLine(folder=tmp_path, environment=environment)


def run(*more: str) -> list[str]:
    return ["run", "--target", "board.toml", "--suite", "tiny.toml", "--results", "out", *more]


def test_a_board_is_checked_in_one_table(pressbench, monkeypatch):
    year = 365 * 86400
    hello = Ssh.probe
    monkeypatch.setattr(
        Ssh, "probe", lambda *given: (found := hello(*given)) and (found[0], {**found[1], "offset_s": -float(year)})
    )
    done = pressbench("targets", "check", "board.toml", "--json")
    assert done.returncode == 0, done.stderr
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.stdout)["checks"]}
    assert rows["runtime", "numpy"]["state"]
    assert rows["runtime", "onnxruntime"]["state"].startswith("onnxruntime ")
    assert rows["meter", "ina3221"]["state"].startswith("measured:ina3221")
    assert rows["thermal zone", "cpu-thermal"]["state"] == "48.3 °C"
    assert rows["governor", "cpu"]["remedy"].startswith("echo performance")
    assert rows["clock offset", "date"]["state"] == f"-{year}.0 s"
    assert rows["clock offset", "date"]["remedy"] == "sudo timedatectl set-ntp true"
    assert rows["backend", "ort"]["state"]


def test_a_run_takes_energy_from_the_rails_of_the_board_and_clean_leaves_nothing(pressbench, board):
    with sshd.loaded_rails(board):
        done = pressbench(*run("--recipe", "baseline"))
    assert done.returncode == 0, done.stderr
    with (pressbench.folder / "out" / "cells.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["status"] in {"ok", "inconclusive", "untrusted"}
    assert float(row["latency_p50_ms"]) > 0
    assert row["energy_source"] == "measured:ina3221"
    assert float(row["energy_per_inference_mj"]) > 0
    done = pressbench("targets", "clean", "board.toml")
    assert done.returncode == 0, done.stderr
    assert "MB removed from the board" in done.stdout
    assert not board.storage.exists()


def test_the_shipped_jetson_target_measures_with_its_rails_from_a_clean_state(pressbench, board):
    """As `make bench TARGET=jetson PRESSBENCH_HOST=...` runs it; the double adds only where its keys and rails are."""
    jetson = resources.files("targets").joinpath("jetson.toml").read_text()
    keys = [line for line in board.target().splitlines() if not line.startswith(("name", "reach", "host"))]
    (pressbench.folder / "jetson.toml").write_text("\n".join(keys) + "\n" + jetson)
    pressbench.environment["PRESSBENCH_HOST"] = f"{board.user}@127.0.0.1:{board.port}"
    shutil.rmtree(board.storage, ignore_errors=True)
    with sshd.loaded_rails(board):
        done = pressbench(*run("--recipe", "baseline", "--target", "jetson.toml"))
    assert done.returncode == 0, done.stderr
    with (pressbench.folder / "out" / "cells.csv").open() as file:
        rows = {row["backend"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"tensorrt", "tensorrt-float16", "ort-cpu"}
    assert rows["tensorrt"]["status"] == rows["tensorrt-float16"]["status"] == "skipped"
    assert rows["ort-cpu"]["target"] == "jetson"
    assert rows["ort-cpu"]["energy_source"] == "measured:ina3221"
    assert float(rows["ort-cpu"]["energy_per_inference_mj"]) > 0
    assert pressbench("targets", "clean", "jetson.toml").returncode == 0
    assert not board.storage.exists()


def test_a_board_unplugged_in_the_middle_fails_its_cells_and_a_resumed_run_finishes_them(
    pressbench, board, monkeypatch
):
    monkeypatch.setattr("bench.reach.ssh.link.PATIENCE_S", 0.5)
    monkeypatch.setattr("bench.reach.ssh.link.GONE_S", 0.5)
    runs = []
    real = Ssh.run

    def unplugged_at_the_second(self, *given):
        runs.append(given)
        if len(runs) == 2:
            board.stop()
        return real(self, *given)

    monkeypatch.setattr(Ssh, "run", unplugged_at_the_second)
    done = pressbench(*run("--json"))
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert counts.pop("failed") == 1
    assert sum(counts.values()) == 1
    with (pressbench.folder / "out" / "cells.csv").open() as file:
        reasons = {row["recipe"]: row["reason"] for row in csv.DictReader(file)}
    assert "was lost and did not come back" in reasons["half"]
    still = pressbench(*run("--resume"))
    assert still.returncode == 3
    assert "refuses connections" in still.stderr
    board.start()
    again = pressbench(*run("--resume", "--json"))
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["run_id"] == json.loads(done.stdout)["run_id"]
    assert "failed" not in answer["counts"]
    assert pressbench(*run("--resume")).returncode == 2


def test_clean_is_for_boards(pressbench):
    done = pressbench("targets", "clean", "cpu")
    assert done.returncode == 2
    assert "nothing is sent to it, its reach is 'local'" in done.stderr


def test_a_board_without_an_address_names_both_ways(pressbench):
    pressbench.environment.pop("PRESSBENCH_HOST", None)
    done = pressbench("run", "--target", "jetson", "--suite", "tiny.toml")
    assert done.returncode == 2
    assert 'Set PRESSBENCH_HOST=user@host, or write host = "user@host"' in done.stderr
