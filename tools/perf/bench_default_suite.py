"""`pressbench run` of the default suite and its report: first with nothing cached, training included, then again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FIRST_MIN, AGAIN_MIN = 8, 4


def main() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for title, limit in (("nothing cached", FIRST_MIN), ("again", AGAIN_MIN)):
            yield f"default suite, {title}: {wall_s(Path(folder)) / 60:.1f} min (asked: under {limit} min on 2 quiet cores)"


def wall_s(folder: Path) -> float:
    """Seconds of what `make bench` does once it is set up."""
    pressbench = str(Path(sys.executable).with_name("pressbench"))
    environment = {**os.environ, "PRESSBENCH_CACHE": str(folder / "cache")}
    results = ["--results", str(folder / "results")]
    start = time.perf_counter()
    for command in (["run", "--target", "cpu", "--suite", "default"], ["report"]):
        subprocess.run([pressbench, *command, *results], check=True, capture_output=True, env=environment)
    return time.perf_counter() - start
