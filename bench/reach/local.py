"""This machine: the worker as a child process in a group of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.device.job import Job
from bench.device.machine import cpu_name
from bench.reach.base import Ended, Reach
from bench.reach.process import run_worker
from bench.reach.travel import find_root


class Local(Reach):
    """Runs workers with this Python. `command` starts the worker module (tests and other environments hand in theirs).

    `code`: the folder of the code that such an environment runs, in place of $PYTHONPATH.
    """

    def __init__(
        self, command: Sequence[str] = (sys.executable, "-m", "bench.device.worker"), code: Path | None = None
    ) -> None:
        self._command = tuple(command)
        self._code = code

    def describe(self) -> str:
        """The CPU's name."""
        return cpu_name(Path("/"))

    def run(self, job: Job, workdir: Path, limit_s: float) -> Ended:
        """See `Reach.run`. The worker's current folder is `workdir`."""
        path = workdir / "job.json"
        path.write_text(job.to_json(), encoding="utf-8")
        threads = str(job.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        if self._code:
            environment["PYTHONPATH"] = str(self._code)
        places = [str(find_root(path.partition(":")[0])) for path in (job.preprocess, job.postprocess) if path]
        if places:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), *places]))
        return Ended(events=run_worker([*self._command, str(path)], workdir, limit_s, environment))
