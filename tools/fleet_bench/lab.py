"""What a run on a fleet needs, as doubles that can be killed: boards over SSH on loopback, Dask workers, a PostgreSQL server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.errors import Unavailable

ROOT = Path(__file__).resolve().parents[2]
CEILING_C = 40.0
"""A double says that it has 48 °C: each launch then waits `wait_s` to cool, as a board would, and uses no CPU meanwhile."""
START_S = 120.0


@dataclass(kw_only=True)
class Lab:
    """The machinery. `doubles`: by board. `workers`: processes, one to each."""

    folder: Path
    environment: dict[str, str]
    doubles: dict[str, Any]
    server: Any
    scheduler: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill_board(self, name: str) -> None:
        """As if unplugged: the server, its connections, and what it ran."""
        self.doubles[name].stop()
        import_module("sshd").kill_runners(self.doubles[name])

    def start_board(self, name: str) -> None:
        self.doubles[name].start()

    def kill_worker(self, place: int) -> None:
        self.workers[place].kill()
        self.workers[place].wait()

    def start_worker(self, place: int) -> None:
        self.workers[place] = start_dask(
            self, "dask_worker", self.scheduler, "--nthreads", "1", "--no-nanny", "--no-dashboard"
        )

    def has_workers(self) -> bool:
        return all(worker.poll() is None for worker in self.workers)


def start_dask(lab: Lab, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    with (lab.folder / f"{module}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            cwd=lab.folder,
            env=lab.environment,
            stdout=log,
            stderr=log,
        )


@contextmanager
def set_up(folder: Path, *, boards: int, workers: int, wait_s: float) -> Iterator[Lab]:
    """All of it, started. Raises `Unavailable` where a double cannot be started here."""
    sys.path.insert(0, str(ROOT / "tests"))
    postgres, sshd = import_module("postgres"), import_module("sshd")
    if reason := postgres.missing() or sshd.missing():
        raise Unavailable(reason)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PRESSBENCH_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment.pop("PRESSBENCH_HOST", None)
    (folder / "cache").mkdir(parents=True)
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running())
        named = [f"board-{number}" for number in range(1, boards + 1)]
        doubles = {name: stack.enter_context(sshd.running(folder / name)) for name in named}
        lab = Lab(folder=folder, environment=environment, doubles=doubles, server=server)
        write_fleet(lab, wait_s)
        if workers:
            stack.callback(end_workers, lab)
            start_workers(lab, workers, stack)
        yield lab


def write_fleet(lab: Lab, wait_s: float) -> None:
    (lab.folder / "double.toml").write_text(
        f'name = "double"\nreach = "ssh"\ncool_down_s = {wait_s}\nceiling_c = {CEILING_C}\n[[backend]]\nname = "ort"\n'
    )
    kept = ("host", "ssh_config", "folder", "root", "python")
    boards = [
        f'[boards.{name}]\nsku = "double"\ntarget = "double.toml"\n'
        + "".join(f"{line}\n" for line in double.target().splitlines() if line.startswith(kept))
        for name, double in lab.doubles.items()
    ]
    (lab.folder / "fleet.toml").write_text("\n".join(boards))


def start_workers(lab: Lab, workers: int, stack: ExitStack) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab.scheduler = f"tcp://127.0.0.1:{port}"
    scheduler = start_dask(lab, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    stack.callback(scheduler.kill)
    end = time.monotonic() + START_S
    while not answers(port):
        if scheduler.poll() is not None or time.monotonic() > end:
            raise Unavailable(f"no scheduler: {(lab.folder / 'dask_scheduler.log').read_text()[-1000:]}")
        time.sleep(0.1)
    lab.workers = [None] * workers  # type: ignore[list-item]
    for place in range(workers):
        lab.start_worker(place)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end_workers(lab: Lab) -> None:
    for worker in lab.workers:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def start_coordinator(
    lab: Lab, given: Sequence[str], *, patience_s: float, recheck_s: float
) -> subprocess.Popen[bytes]:
    """The real command in a process of its own."""
    with (lab.folder / "coordinator.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.fleet_bench.coordinator"),
                *(str(lab.folder / "events"), str(patience_s), str(recheck_s), *given),
            ],
            cwd=lab.folder,
            env=lab.environment,
            stdout=log,
            stderr=log,
        )
