"""Runs code that a hostile file may kill in a process of its own, with a limit on memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
from bench.errors import PressbenchError
try:
    exec(sys.argv[2])
except PressbenchError as error:
    print(f"{type(error).__name__}: {error}")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("peak", int(status["VmHWM"].split()[0]) * 1024)  # getrusage's counts the process it was forked from too
"""


def answer_of(code: str, *, memory: int = 2 * 2**30, seconds: float = 60) -> tuple[str, int]:
    """What `code` printed, or the error pressbench raised, and the peak of its memory in bytes.

    A crash, another exception, more memory or more time fails the test.
    """
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(memory), code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-1000:]}"
    said, _, peak = done.stdout.rstrip().rpartition("peak ")
    return said.strip(), int(peak)
