"""Runs one reported case in a folder of its own: builds its files, runs its commands, reads what they left."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 300
REFUSED = 2
"""The exit code of a command that refuses its input. It leaves no file, so the check after it does not run."""
BRIEF = """[measure]
launches = 1
pairs = 0
warmup_s = 0.0
time_s = 0.05
profile_runs = 0
"""
"""How a suite measures where the times decide nothing."""
BESIDE = ("quick.toml", "torch_check.py")
"""Files that the commands name as `../NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command left. `cells`: rows of cells.csv, for a `run`."""

    command: str
    exit_code: int
    output: str
    cells: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A folder of reported cases. `commands` run in order; `build.py` before them where there is one."""

    name: str
    folder: Path
    symptom: str
    expected: str
    commands: tuple[str, ...]


def load_case(folder: Path) -> Case:
    """Reads `case.json`. Raises `SystemExit` naming a file that does not read."""
    path = folder / "case.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Case(
            name=folder.name,
            folder=folder,
            symptom=told["symptom"],
            expected=told["expect"],
            commands=tuple(told["commands"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{path}: {error!r}") from error


def run_case(
    case: Case, work: Path, more: Sequence[str] = (), *, borrow: Sequence[str] = (), brief: bool
) -> list[Outcome]:
    """Copies the case beside the shared files into `work`, builds it and runs its commands, then those of `more`.

    `borrow`: the file of another case (`18-pads/model.onnx`) and the name that this case has it under.
    `brief`: the suite that the cases share measures for a moment only.
    """
    folder = work / case.name
    shutil.copytree(case.folder, folder)
    folder.chmod(0o755)
    for name in BESIDE:
        text = (case.folder.parent / name).read_text(encoding="utf-8")
        if brief and name.endswith(".toml"):
            text = text.partition("[measure]")[0] + BRIEF
        (work / name).write_text(text, encoding="utf-8")
    if borrow:
        borrow_file(case.folder.parent / borrow[0], folder / borrow[1], work)
    done: list[Outcome] = []
    if (folder / "build.py").exists():
        built = run_command("python build.py", folder)
        if built.exit_code:
            return [built]
    for number, command in enumerate((*case.commands, *more)):
        if command.strip() == "python build.py":
            continue
        if done and done[-1].exit_code == REFUSED and command.startswith("python "):
            continue
        results = folder / f"out{number}"
        text = command.replace("--results out", f"--results {results.name}")
        done.append(with_cells(run_command(text, folder), results))
    return done


def borrow_file(file: Path, wanted: Path, work: Path) -> None:
    """Builds another case and copies a file of it."""
    other = work / file.parent.name
    shutil.copytree(file.parent, other)
    other.chmod(0o755)
    run_command("python build.py", other)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(other / file.name, wanted)


def run_command(command: str, folder: Path) -> Outcome:
    """One line of a case, without a shell, with this Python first on the path."""
    here = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    words = shlex.split(command)
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(command=command, exit_code=-1, output=f"no end after {LIMIT_S} s")
    return Outcome(command=command, exit_code=done.returncode, output=done.stdout + done.stderr)


def with_cells(outcome: Outcome, results: Path) -> Outcome:
    """The outcome with the rows of the CSV that a run leaves (written by `report` where the run does not)."""
    table = results / "cells.csv"
    if not table.exists() and (results / "pressbench.db").exists():
        run_command(f"pressbench report --results {results.name}", results.parent)
    if not table.exists():
        return outcome
    with table.open(newline="", encoding="utf-8") as file:
        rows = tuple(csv.DictReader(file))
    return Outcome(command=outcome.command, exit_code=outcome.exit_code, output=outcome.output, cells=rows)
