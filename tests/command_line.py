"""The command line for a test: in this process, or as the process a user starts."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli import main

PRESSBENCH = str(Path(sys.executable).with_name("pressbench"))
LIMIT_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """`pressbench` as run in `folder` under `environment`."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a command in this process, where torch is loaded already.

        An error that `main` does not turn into an exit code comes out here as itself and fails the test.
        """
        given = list(map(str, arguments))
        printed, complained = io.StringIO(), io.StringIO()
        known = set(sys.modules)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(complained):
            patch.chdir(self.folder)
            patch.setattr("os.environ", self.environment)
            patch.setattr(sys, "path", list(sys.path))
            code = exit_code(given)
        for name in set(sys.modules) - known:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(self.folder):
                del sys.modules[name]  # a user's module: the next test has another of its name
        return subprocess.CompletedProcess(given, code, printed.getvalue(), complained.getvalue())

    def process(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a command as a process of its own: for what only a process shows, and seconds slower."""
        command = [PRESSBENCH, *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )


def exit_code(arguments: list[str]) -> int:
    """What `pressbench` ends with."""
    try:
        main(arguments)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        return ended.code or 0
    return 0
