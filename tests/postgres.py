"""A throw-away PostgreSQL server on a Unix socket, for as long as a test run."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/postgresql")
OWNER = "postgres"
"""The user a server started by root runs as: PostgreSQL refuses to run as root."""
START_S = 60
SAFE = ("-c", "listen_addresses=")
"""As PostgreSQL comes, without a network."""
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off", *SAFE)
"""A server whose data dies with the test run needs no safety."""


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, of the newest version installed; None where there are none."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].partition(".")[0]))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def missing() -> str:
    """Why no server can be started here, with the remedy; "" where one can."""
    if programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if os.geteuid() == 0 and OWNER not in {user.pw_name for user in pwd.getpwall()}:
        return f"PostgreSQL does not run as root and there is no user {OWNER!r}: apt-get install postgresql"
    return ""


@dataclass
class Server:
    """A server that can be killed and started again on the same data."""

    folder: Path
    home: Path
    options: tuple[str, ...] = FAST
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{OWNER}@/{OWNER}?host={self.home}"

    @property
    def as_owner(self) -> dict[str, Any]:
        return {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}

    def start(self) -> None:
        pidfile, log = self.home / "data" / "postmaster.pid", self.home / "log"
        pidfile.unlink(missing_ok=True)  # of one that was killed
        with log.open("a") as written:
            command: list[str | Path] = [
                self.folder / "postgres",
                "-D",
                self.home / "data",
                "-k",
                self.home,
                *self.options,
            ]
            self.process = subprocess.Popen(command, stderr=written, cwd=self.home, **self.as_owner)
        wait_for(pidfile, self.process, log)

    def kill(self) -> None:
        """At once, as a crash: connections break, and the next start recovers what was committed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=START_S)
            self.process = None


@contextmanager
def running(options: tuple[str, ...] = FAST) -> Iterator[Server]:
    """Starts a server on a new, empty cluster. RuntimeError: it did not start."""
    folder = programs()
    if folder is None:
        raise RuntimeError(missing())
    home = Path(tempfile.mkdtemp(prefix="pressbench-postgres-"))
    server = Server(folder=folder, home=home, options=options)
    try:
        if server.as_owner:
            shutil.chown(server.home, OWNER, OWNER)
        make: list[str | Path] = [
            folder / "initdb",
            "-D",
            server.home / "data",
            "-U",
            OWNER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=server.home, **server.as_owner)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.home, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server as `running` starts it."""
    with running() as started:
        yield started.url


def wait_for(pidfile: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server says it is ready, in the last line of its pid file."""
    deadline = time.monotonic() + START_S
    while not (pidfile.exists() and pidfile.read_text().rstrip().endswith("ready")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
