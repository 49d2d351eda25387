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
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
OWNER = "postgres"
"""The user a server started by root runs as: PostgreSQL refuses to run as root."""
START_S = 60
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off", "-c", "listen_addresses=")
"""A server whose data dies with the test run needs no safety and no network."""


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


@contextmanager
def server() -> Iterator[str]:
    """Starts a server on a new, empty cluster and yields its URL. RuntimeError: it did not start."""
    folder = programs()
    if folder is None:
        raise RuntimeError(missing())
    as_owner = {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="pressbench-postgres-"))
    data, log = home / "data", home / "log"
    try:
        if as_owner:
            shutil.chown(home, OWNER, OWNER)
        make = [folder / "initdb", "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=home, **as_owner)
        with log.open("w") as written:
            process = subprocess.Popen(
                [folder / "postgres", "-D", data, "-k", home, *FAST], stderr=written, cwd=home, **as_owner
            )
        try:
            wait_for(home / "data" / "postmaster.pid", process, log)
            yield f"postgresql://{OWNER}@/{OWNER}?host={home}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing is worth keeping
            process.wait(timeout=START_S)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def wait_for(pidfile: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server says it is ready, in the last line of its pid file."""
    deadline = time.monotonic() + START_S
    while not (pidfile.exists() and pidfile.read_text().rstrip().endswith("ready")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
