"""`pressbench run` in this process by a suite that measures for a moment, for tests that look at the cells of its CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bench.cli import main

SUITE = """
name = "quick"
models = ["resnet8"]
{recipes}
[measure]
launches = 1
pairs = 0
warmup_s = 0.01
time_s = 0.02
max_samples = 30
profile_runs = 0
"""


def settle(folder: Path, cache: Path, patch: pytest.MonkeyPatch, recipes: str = "") -> None:
    """Makes `folder` the working one, with the suite in it. `recipes`: the suite's, in TOML."""
    patch.setenv("PRESSBENCH_CACHE", str(cache))
    patch.chdir(folder)
    Path("quick.toml").write_text(SUITE.format(recipes=recipes))


def run(*arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    """Recipe -> its row of the CSV, {} where none was written. `code`: what the command must end with."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "quick.toml", "--results", "out", *arguments])
    assert ended.value.code == code
    if not Path("out/cells.csv").exists():
        return {}
    with Path("out/cells.csv").open(newline="") as file:
        return {row["recipe"]: row for row in csv.DictReader(file)}
