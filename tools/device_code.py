"""Checks that the code that travels to a device runs on its Python: `python -m tools.device_code`, part of `make check`.

The worker, the sessions of the backends and everything of this repository that they import must run on
Python 3.10, the oldest a target may have. vermin finds syntax and standard library that came later.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.own_code import find_imported
from bench.reach import travel

PYTHON = "3.10"
ROOT = Path(__file__).resolve().parent.parent
STARTS = (*travel.ALWAYS, "backends/*/session.py")
"""What a job names; the rest is what these import."""


def travelling(root: Path = ROOT) -> list[Path]:
    """The starts and, through their imports, every file of this repository that a worker may load."""
    return find_imported(root, [path for pattern in STARTS for path in root.glob(pattern)])


def main() -> int:
    """Prints what needs a later Python; vermin's exit code."""
    files = travelling()
    run_vermin = "import sys, vermin; sys.exit(vermin.main())"  # it has no `python -m`
    vermin = [sys.executable, "-c", run_vermin, f"--target={PYTHON}-", "--violations", "--no-tips", "--quiet"]
    done = subprocess.run(
        [*vermin, "--eval-annotations", "--no-parse-comments", *map(str, files)],
        check=False,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    print(said.strip() if done.returncode else f"{len(files)} files that travel to a device run on {PYTHON}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
