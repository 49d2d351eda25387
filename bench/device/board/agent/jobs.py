"""A job of the board: laid out, started, followed, its outputs sent, ended."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

from bench.device.board.agent.answers import Refused, Request, answer
from bench.device.board.agent.files import CHUNK, find_missing, place, read, write
from bench.device.board.agent.processes import boot_id, remove_job, runner_of

RUNNER = "bench/device/board/runner.py"
START_S = 20.0


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
