"""Answers one request of the host and ends: the one file that a board must get before anything else.

`python3 -I -S -c LAUNCHER FOLDER HASH` runs it. The request is one line of JSON on standard input, `{"do": ..., ...}`;
file content may follow. The answer is one line: MARK and JSON; file content may follow. What comes before MARK is from
login scripts of the board. State is files in FOLDER:

    agent/HASH.py      this file, by the SHA-256 of its content
    blobs/HASH         files by content; HASH.part while they arrive
    code/HASH/         an unpacked package of device-side code
    jobs/ID/           job.json, start.json, links to blobs, events, stderr.log, outputs.npz
    lock               who uses the board; the file lock is held by a `hold` request

Standard library only, Python 3.10; modules that few requests need are imported there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Request = dict[str, Any]
MARK = b"\x1epressbench "
NAME = re.compile(r"[0-9a-f]{8,64}")
CHUNK = 1 << 20
GRACE_S = 60.0
"""How long the job of a user whose link was lost is left running when another user asks for the board."""
SILENT_S = 30.0
"""A holder ends when its host has said nothing for so long: it sends a byte every few seconds."""
RUNNER = "bench/device/board/runner.py"
START_S = 20.0


class Refused(Exception):  # noqa: N818
    """What the host must say to its user. `kind`: busy, full, readonly, corrupt or request."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def answer(values: Request) -> None:
    """Writes the line of the answer."""
    sys.stdout.buffer.write(MARK + json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


def place(folder: Path, kind: str, name: object) -> Path:
    """A path in the folder. The host is not trusted with paths: a name is hexadecimal digits."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refused("request", f"not a name: {name!r}")
    return folder / kind / name


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


def missing(folder: Path, request: Request) -> None:
    """Which files are not here."""
    answer({"missing": find_missing(folder, request["files"]), "free": shutil.disk_usage(folder).free})


def find_missing(folder: Path, files: dict[str, int]) -> dict[str, int]:
    """Hash -> bytes of it that have come, for each of `{hash: bytes}` that is not whole."""
    lacking = {}
    for name, size in files.items():
        path = place(folder, "blobs", name)
        if size_of(path) != size:
            lacking[name] = max(0, size_of(path.with_suffix(".part")))
    return lacking


def put(folder: Path, request: Request) -> None:
    """Appends to the part of a file from `offset` on; the last byte makes it whole. Another hash: nothing is kept."""
    path = place(folder, "blobs", request["hash"])
    part = path.with_suffix(".part")
    size, offset = int(request["size"]), int(request["offset"])
    part.touch()
    with part.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(min(offset, file.seek(0, os.SEEK_END)))
        if file.seek(0, os.SEEK_END) != offset:
            raise Refused("request", f"a file cannot begin at byte {offset}")
        while offset < size and (chunk := sys.stdin.buffer.read(min(CHUNK, size - offset))):
            file.write(chunk)
            offset += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if offset == size:
        if digest(part) != request["hash"]:
            part.unlink()
            raise Refused("corrupt", "a file arrived with another content than was sent")
        part.replace(path)
    answer({"have": offset})


def start(folder: Path, request: Request) -> None:
    """Starts a job whose files are here, and follows it; says which of its files are missing otherwise.

    Asked twice, it runs once: the runner creates the events file.
    """
    for done in request["forget"]:
        remove_job(place(folder, "jobs", done))
    lacking = find_missing(folder, request["files"])
    if lacking:
        answer({"missing": lacking, "free": shutil.disk_usage(folder).free})
        return
    job = place(folder, "jobs", request["job"])
    if not (job / "runner").exists():
        code = unpack(folder, request["code"])
        lay_out(folder, job, request, code)
        launch(job, code / RUNNER)
    follow(folder, request)


def unpack(folder: Path, code: str) -> Path:
    """The folder of a package of code, from its blob: whole or not at all, compiled once."""
    import compileall
    import zipfile

    target = place(folder, "code", code)
    if not target.is_dir():
        fresh = target.with_suffix(f".{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        with zipfile.ZipFile(place(folder, "blobs", code)) as archive:
            archive.extractall(fresh)
        compileall.compile_dir(fresh, quiet=2)
        try:
            fresh.rename(target)
        except OSError:  # another request was first
            shutil.rmtree(fresh, ignore_errors=True)
    return target


def lay_out(folder: Path, job: Path, request: Request, code: Path) -> None:
    """The job's folder: what the worker and the runner read, and links to files by their own names."""
    job.mkdir(exist_ok=True)
    for name, blob in request["links"].items():
        path = job / name
        if job not in path.parents or ".." in path.parts:
            raise Refused("request", f"a link leaves its job: {name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(place(folder, "blobs", blob))
    write(job / "job.json", request["job.json"])
    start_text = json.loads(request["start.json"])
    start_text["environment"]["PYTHONPATH"] = str(code)
    write(job / "start.json", json.dumps(start_text))


def launch(job: Path, runner: Path) -> None:
    """Starts the job's runner in a session of its own, and waits until it can be followed."""
    import subprocess

    with (job / "runner.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-I", "-S", str(runner), str(job)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job,
            start_new_session=True,
        )
    end = time.monotonic() + START_S
    while not (job / "runner").exists():
        if time.monotonic() > end:
            raise Refused("request", "the runner did not start: " + read(job / "runner.log")[-300:])
        time.sleep(0.005)


def follow(folder: Path, request: Request) -> None:
    """The events from a byte on, as they come: this process becomes `tail`, which sleeps until the file grows."""
    job = place(folder, "jobs", request["job"])
    runner = runner_of(job)
    answer({"boot": boot_id(), "running": runner > 0})
    waits = ["-f", *([f"--pid={runner}"] if knows_pid() else [])] if runner else []
    os.execvp("tail", ["tail", "-c", f"+{int(request['offset']) + 1}", *waits, str(job / "events")])  # noqa: S606, S607


def knows_pid() -> bool:
    """Whether `tail` ends with a process (GNU's does, BusyBox's does not): then a killed runner ends it too."""
    import subprocess

    shown = subprocess.run(["tail", "--help"], capture_output=True, text=True, check=False)  # noqa: S607
    return "--pid" in shown.stdout


def get(folder: Path, request: Request) -> None:
    """A job's outputs from a byte on."""
    with (place(folder, "jobs", request["job"]) / "outputs.npz").open("rb") as file:
        answer({"size": os.fstat(file.fileno()).st_size})
        file.seek(int(request["offset"]))
        shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)
    sys.stdout.buffer.flush()


def forget(folder: Path, request: Request) -> None:
    """Ends jobs and removes their folders."""
    for job in request["jobs"]:
        remove_job(place(folder, "jobs", job))
    answer({"forgotten": True})


def hold(folder: Path, request: Request) -> None:
    """Keeps the board for one owner as long as the host is there: it sends bytes, and its link ends this process."""
    file = take(folder, request["owner"])
    answer({"held": True})
    while select.select([0], [], [], SILENT_S)[0] and os.read(0, 4096):
        pass
    note(file, request["owner"], lost=time.clock_gettime(time.CLOCK_BOOTTIME))


def take(folder: Path, owner: str) -> IO[str]:
    """The lock file, locked. Breaks the lock of an owner that is gone; refuses while one is there."""
    path = folder / "lock"
    file = path.open("a+", encoding="utf-8")
    end = time.monotonic() + 5
    while not lock(file):
        noted = noted_in(path)
        if noted.get("owner") != owner or time.monotonic() > end:
            raise Refused("busy", str(noted.get("owner", "another user")))
        end_process(int(noted["pid"]), str(noted["began"]))  # of this owner's link that froze
        time.sleep(0.05)
    noted = noted_in(path)
    if noted.get("owner") != owner:
        evict(folder, noted)
    note(file, owner)
    return file


def evict(folder: Path, noted: Request) -> None:
    """Removes the jobs of an owner that is gone. One whose link was lost a moment ago may come back to its job."""
    jobs = list((folder / "jobs").iterdir())
    if noted.get("boot") == boot_id() and any(map(runner_of, jobs)):
        lost = noted["since"] if noted["lost"] is None else noted["lost"]
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - lost
        if ago < GRACE_S:
            raise Refused("busy", f"{noted['owner']}, whose link was lost {ago:.0f} s ago")
    for job in jobs:
        remove_job(job)


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


def lock(file: IO[str]) -> bool:
    """Takes the file lock if it is free. The kernel frees it when its process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def note(file: IO[str], owner: str, lost: float | None = None) -> None:
    """Writes into the lock file who has it. Seconds count from the boot: the board's date may be wrong."""
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    values = {"owner": owner, "pid": os.getpid(), "began": began(os.getpid()), "boot": boot_id(), "since": since}
    file.truncate(0)
    file.write(json.dumps({**values, "lost": lost}))
    file.flush()


def noted_in(path: Path) -> Request:
    """What the lock file says; {} where it says nothing."""
    try:
        found = json.loads(read(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"owner", "pid", "began", "boot", "since", "lost"} <= set(found) else {}


def remove_job(job: Path) -> None:
    """Ends a job, with its worker and all that it started, and removes its folder: asks the runner, then kills it."""
    runner = runner_of(job)
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        if runner_of(job) == runner > 0:
            os.kill(runner, number)
        while runner_of(job) and time.monotonic() < end:
            time.sleep(0.02)
    shutil.rmtree(job, ignore_errors=True)


def runner_of(job: Path) -> int:
    """Process id of the job's runner; 0 when it does not run (any more)."""
    pid, _, start_time = read(job / "runner").partition(" ")
    return int(pid) if pid.isdigit() and began(int(pid)) == start_time.strip() else 0


def end_process(pid: int, start_time: str) -> None:
    """SIGKILL to the process that began then, not to a later one with its id."""
    if pid > 0 and began(pid) == start_time:
        os.kill(pid, signal.SIGKILL)


def began(pid: int) -> str:
    """When a process began, in ticks since boot, with the boot: no two share id and beginning. "" for one that ended."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if not fields or fields[0] in "ZX" else f"{fields[19]}@{boot_id()}"


def boot_id() -> str:
    """Another one after each boot."""
    return read(Path("/proc/sys/kernel/random/boot_id")).strip()


def size_of(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def read(path: Path) -> str:
    """The text of a file; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def install(folder: str, source: bytes) -> None:
    """Keeps this file in the folder: called with the source that arrived."""
    target = Path(folder).expanduser() / "agent"
    try:
        target.mkdir(parents=True, exist_ok=True)
        write(target / f"{hashlib.sha256(source).hexdigest()}.py", source.decode())
    except (OSError, RuntimeError) as error:
        answer(refusal(error))
    else:
        answer({"installed": True})


def refusal(error: Exception) -> Request:
    """The answer that stands for an error."""
    if isinstance(error, Refused):
        return {"refused": error.kind, "text": str(error)}
    kinds = {errno.ENOSPC: "full", errno.EDQUOT: "full"}
    kinds.update(dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR), "readonly"))
    number = error.errno if isinstance(error, OSError) else None
    return {"refused": kinds.get(number or 0, "request"), "text": f"{type(error).__name__}: {error}"}


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


if __name__ == "__main__":
    main(sys.argv[1:])
