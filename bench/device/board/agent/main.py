"""Answers one request of the host and ends: the agent is the one thing that a board must get before anything else.

`python3 -I -S -c LAUNCHER FOLDER HASH` runs it out of its zip. The request is one line of JSON on standard input,
`{"do": ..., ...}`; file content may follow. The answer is one line: MARK and JSON; file content may follow. What comes
before MARK is from login scripts of the board. State is files in FOLDER:

    agent/HASH.zip     this package, by the SHA-256 of its content
    blobs/HASH         files by content; HASH.part while they arrive
    code/HASH/         an unpacked package of device-side code
    jobs/ID/           job.json, start.json, links to blobs, events, stderr.log, outputs.npz
    lock               who uses the board; the file lock is held by a `hold` request

Standard library only, Python 3.10; modules that few requests need are imported there.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.device.board.agent.answers import Refused, Request, answer, refusal
from bench.device.board.agent.files import missing, put, read, size_of
from bench.device.board.agent.jobs import follow, forget, get, start
from bench.device.board.agent.owner import hold, take
from bench.device.board.agent.processes import boot_id, remove_job


def hello(folder: Path, _request: Request) -> None:
    """What the board is, and whether it can be used."""
    import platform
    import subprocess

    for name in ("agent", "blobs", "code", "jobs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "lock").touch()
    asked = [sys.executable, "-c", "import numpy; print(numpy.__version__)"]
    numpy = subprocess.run(asked, capture_output=True, text=True, check=False)
    answer(
        {
            "folder": str(folder),
            "boot": boot_id(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "machine": platform.machine(),
            "model": read(Path("/proc/device-tree/model")).rstrip("\0"),
            "numpy": numpy.stdout.strip() if numpy.returncode == 0 else "",
            "clock": time.time(),
        }
    )


def clean(folder: Path, request: Request) -> None:
    """Removes everything of ours from the board. Refuses while another owner is there."""
    take(folder, request["owner"])
    for job in (folder / "jobs").iterdir():
        remove_job(job)
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for name in ("jobs", "blobs", "code", "agent", "tensorrt"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if size_of(folder / "settings") == 0:  # else a board's settings are still to be restored
        for name in ("settings", "jetson_clocks.stored"):
            (folder / name).unlink(missing_ok=True)
    (folder / "lock").unlink()
    left = [path.name for path in folder.iterdir()]
    if not left:
        folder.rmdir()
    answer({"freed": size, "left": left})


REQUESTS: dict[str, Callable[[Path, Request], None]] = {
    "hello": hello,
    "missing": missing,
    "put": put,
    "start": start,
    "follow": follow,
    "get": get,
    "forget": forget,
    "hold": hold,
    "clean": clean,
}


def main(arguments: list[str]) -> None:
    """One request."""
    try:
        request = json.loads(sys.stdin.buffer.readline())
        REQUESTS[request["do"]](Path(arguments[0]).expanduser().resolve(), request)
    except (Refused, OSError, KeyError, ValueError, RuntimeError) as error:
        answer(refusal(error))
