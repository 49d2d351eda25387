"""`pressbench run` from its first check to its last line, and what it leaves behind when it is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import PRESSBENCH, CommandLine

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
"""


@pytest.fixture
def pressbench(cache: Path, tmp_path: Path) -> CommandLine:
    (tmp_path / "tiny.toml").write_text(SUITE)
    environment = {**os.environ, "PRESSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("PRESSBENCH_DATA", None)
    return CommandLine(folder=tmp_path, environment=environment)


def run(*more: str) -> list[str]:
    return ["run", "--target", "cpu", "--suite", "tiny.toml", "--results", "out", *more]


def test_a_run_writes_its_report_and_says_what_to_do_next(pressbench):
    done = pressbench(*run())
    assert done.returncode == 0, done.stderr
    assert "Wrote out/cells.csv and out/dashboard.html." in done.stdout
    assert "Next: open out/dashboard.html in a browser" in done.stdout
    with (pressbench.folder / "out" / "cells.csv").open() as file:
        assert [row["recipe"] for row in csv.DictReader(file)] == ["baseline", "half"]
    assert "lenet300_100(width=0.1)" in (pressbench.folder / "out" / "dashboard.html").read_text()
    again = json.loads(pressbench(*run("--json")).stdout)
    assert (again["csv"], again["dashboard"]) == ("out/cells.csv", "out/dashboard.html")
    with (pressbench.folder / "out" / "cells.csv").open() as file:
        assert {row["run_id"] for row in csv.DictReader(file)} == {again["run_id"]}


def test_a_run_without_a_fleet_or_cluster_imports_none_of_their_libraries(pressbench):
    absent = "{'dask', 'distributed', 'fsspec', 'labgrid', 'optuna', 'psycopg'}"
    code = f"""
import sys
from bench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print("imported", sorted({absent} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, *run("--recipe", "baseline", "--launches", "1")]
    done = subprocess.run(
        command, cwd=pressbench.folder, env=pressbench.environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("imported []\n"), done.stdout + done.stderr


def test_no_report_leaves_the_files_out_and_says_how_to_get_them(pressbench):
    done = pressbench(*run("--no-report", "--recipe", "baseline"))
    assert done.returncode == 0, done.stderr
    assert "Next: `pressbench report --results out` writes cells.csv and dashboard.html." in done.stdout
    assert sorted(path.suffix for path in (pressbench.folder / "out").iterdir()) == [".db"]


@pytest.mark.parametrize(
    "more",
    [
        ("--target", "cpo"),
        ("--recipe", "pruny(amount=0.5)"),
        ("--model", "missing.onnx"),
        ("--backend", "nope"),
        ("--dataset", "nope"),
        ("--resume",),
    ],
)
def test_a_rejected_run_leaves_nothing_behind(pressbench, more):
    done = pressbench(*run(*more))
    assert done.returncode == 2, done.stderr
    assert not (pressbench.folder / "out").exists()


@pytest.mark.parametrize("command", [run("--resume"), ["report", "--out", "out"]], ids=["resume", "report"])
def test_reading_a_database_that_is_not_there_does_not_create_its_file(pressbench, command):
    done = pressbench(*command, "--database", "sqlite:///new.db")
    assert done.returncode == 2, done.stderr
    assert "interrupted run" in done.stderr or "new.db does not exist" in done.stderr
    assert not (pressbench.folder / "new.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        run(),
        ["compress", "--model", "lenet300_100(width=0.1)", "--recipe", "int8", "--out", "x.onnx"],
        ["compare", "--target", "cpu", "a.onnx", "a.onnx"],
        ["targets", "check", "cpu"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_cache_that_cannot_be_written_is_one_error_before_anything_is_measured(pressbench, arguments):
    (pressbench.folder / "file").write_text("not a folder")
    pressbench.environment["PRESSBENCH_CACHE"] = str(pressbench.folder / "file")
    done = pressbench(*arguments)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("pressbench: cannot write the cache at") == 1
    assert "set PRESSBENCH_CACHE" in done.stderr
    assert not (pressbench.folder / "out").exists()


def folders_of(temporary: Path) -> set[str]:
    return {path.name for path in temporary.glob("pressbench-*")}


def test_what_a_killed_run_leaves_in_the_temporary_directory_the_next_run_removes(pressbench):
    """A real kill -9 while a cell is measured; folders of others and of living processes stay."""
    temporary = pressbench.folder / "temporary"
    temporary.mkdir()
    (temporary / "pressbench-of-nobody").mkdir()
    pressbench.environment["TMPDIR"] = str(temporary)
    command = subprocess.Popen(
        [PRESSBENCH, *run()],
        cwd=pressbench.folder,
        env=pressbench.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list(temporary.glob("pressbench-run-*/pressbench-job-*/job.json")):
        assert command.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    command.send_signal(signal.SIGKILL)
    command.wait()
    left = folders_of(temporary) - {"pressbench-of-nobody"}
    assert len(left) == 1
    done = pressbench.process(*run("--recipe", "baseline"))
    assert done.returncode == 0, done.stderr
    assert folders_of(temporary) == {"pressbench-of-nobody"}


def test_a_required_budget_decides_the_exit_code(pressbench):
    target = 'name = "cpu"\n[[backend]]\nname = "ort"\n[budget]\nlatency_p50_ms = 1e-9\n'
    (pressbench.folder / "strict.toml").write_text(target)
    strict = ["--target", "strict.toml", "--recipe", "baseline", "--require-budget"]
    done = pressbench(*run(*strict))
    assert done.returncode == 1, done.stderr
    assert "budget fail: latency_p50_ms" in done.stdout
    assert "Not one trusted cell keeps the budget" in done.stdout
    without = pressbench(*run("--recipe", "baseline", "--require-budget"))
    assert without.returncode == 2
    assert "target cpu has no [budget]" in without.stderr
