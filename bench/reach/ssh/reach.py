"""The reach `ssh`: a job's files and code are sent by content, its worker runs detached, its events come back by lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from pydantic import TypeAdapter, ValidationError

from bench.cache import sha256
from bench.config.target import Target
from bench.device.events import Event, MachineFacts
from bench.device.job import Job, MeterChoice
from bench.errors import CellFailed, InvalidInput, Unavailable
from bench.reach.base import Ended, Reach
from bench.reach.process import raise_errors, read_event
from bench.reach.ssh.address import find_address
from bench.reach.ssh.board import Board, Finished, Sent, new_job
from bench.reach.ssh.link import Link, Where
from bench.reach.travel import collect, digest, pack

PROBE_S = 60.0


@final
class Ssh(Reach):
    """A board. Laws: those of `Reach`; a lost link loses and repeats no event; the board is held by one process at a
    time. `root`: of /proc and /sys on the board."""

    def __init__(self, board: Board, root: str = "/") -> None:
        self._board, self._root = board, root
        self._packages: dict[tuple[str, ...], Sent] = {}
        self._digests: dict[tuple[str, int, int], str] = {}

    def describe(self) -> str:
        """The board's model, else its machine. Takes the board. Raises `Unavailable` where it cannot be used, or is
        used by another process."""
        found = self._board.check()
        self._board.hold()
        return str(found["model"] or f"{found['machine']} ({self._board.address})")

    def run(self, job: Job, workdir: Path, limit_s: float) -> Ended:
        """See `Reach.run`. Raises `BoardLost` when the board goes away."""
        del workdir
        hello = self._board.check()
        name, ended = new_job(), False
        try:
            finished = self._run_worker(name, job, f"{hello['folder']}/jobs/{name}", limit_s)
            events = read_events(finished, limit_s)
            if job.outputs:
                self._fetch(name, finished, Path(job.outputs))
            ended = True
        except Unavailable as error:
            raise type(error)(f"on {self._board.address}: {error}") from error
        finally:
            self._board.forget(name, now=not ended)
        return Ended(events=tuple(_add_facts(event, hello, self._board.address) for event in events))

    def close(self) -> None:
        """Lets go of the board."""
        self._board.close()

    def probe(
        self, runtimes: Mapping[str, tuple[Sequence[str], str]], meters: Sequence[MeterChoice]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What the board has, by rows of `bench.device.board.probe`, and what it says of itself."""
        hello = self._board.check()
        folder = hello["folder"]
        shown = [(meter.path, dict(meter.options)) for meter in meters]
        asked = {"root": self._root, "folder": folder, "meters": shown, "runtimes": dict(runtimes)}
        job, name = Job(task="probe", session="", subjects=(), meters=tuple(meters)), new_job()
        try:
            finished = self._run_module("bench.device.board.probe", name, job, json.dumps(asked), PROBE_S)
        finally:
            self._board.forget(name)
        try:
            return TypeAdapter(list[dict[str, str]]).validate_json(b"".join(finished.lines), strict=True), dict(hello)
        except ValidationError:
            raise CellFailed(f"{self._board.address}: the probe ended without an answer: {finished.stderr}") from None

    def clean(self) -> dict[str, Any]:
        """Removes everything of ours from the board. Raises `Unavailable` while another process uses it."""
        self._board.hello()
        return self._board.clean()

    def _run_worker(self, name: str, job: Job, folder: str, limit_s: float) -> Finished:
        models = {f"models/{number}/{Path(s.path).name}": self._file(s.path) for number, s in enumerate(job.subjects)}
        inputs = {f"{key}.npz": self._file(path) for key, path in _inputs(job).items()}
        text = _on_board(job, folder, self._root).to_json()
        return self._run_module("bench.device.worker", name, job, text, limit_s, {**models, **inputs})

    def _run_module(
        self, module: str, name: str, job: Job, text: str, limit_s: float, files: Mapping[str, Sent] | None = None
    ) -> Finished:
        """Runs a module of the device side. `text`: of the file that it reads. `files`: by path in the job's folder."""
        hello, threads = self._board.check(), str(job.threads)
        start = {
            "command": [str(hello["executable"]), "-m", module, f"{hello['folder']}/jobs/{name}/job.json"],
            "environment": {
                "OMP_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
                "PRESSBENCH_CACHE": str(hello["folder"]),
            },
            "limit_s": limit_s,
        }
        what = {"job.json": text, "start.json": json.dumps(start)}
        return self._board.run(name, files or {}, self._package(job), what, limit_s)

    def _package(self, job: Job) -> Sent:
        """The device side with the job's session, meters and functions."""
        functions = (job.preprocess, job.postprocess)
        modules = tuple(
            sorted(
                {
                    path.partition(":")[0]
                    for path in (job.session, *functions, *(meter.path for meter in job.meters))
                    if path
                }
            )
        )
        if modules not in self._packages:
            content = pack(collect(modules))
            self._packages[modules] = Sent(digest=digest(content), size=len(content), content=content)
        return self._packages[modules]

    def _file(self, path: str) -> Sent:
        """A file by its content; its hash is computed once."""
        state = Path(path).stat()
        key = (path, state.st_size, state.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = sha256(Path(path))
        return Sent(digest=self._digests[key], size=state.st_size, path=Path(path))

    def _fetch(self, name: str, finished: Finished, into: Path) -> None:
        """The outputs, whole: checked by their hash."""
        if finished.outputs is None:
            return
        self._board.fetch(name, int(finished.outputs["size"]), into)
        if sha256(into) != finished.outputs["sha256"]:
            raise CellFailed(f"{self._board.address}: the outputs arrived with another content than was sent")


def read_events(finished: Finished, limit_s: float) -> tuple[Event, ...]:
    """The worker's events. Raises as `Reach.run`."""
    if finished.why == "limit":
        raise CellFailed(f"the worker was killed: no end after {limit_s:.0f} s")
    if finished.code is None:
        raise CellFailed(f"the worker was killed: {finished.why}")
    if finished.code < 0:
        raise_errors((), finished.code, finished.stderr)
    events = tuple(map(read_event, finished.lines))
    raise_errors(events, finished.code, finished.stderr)
    return events


def _inputs(job: Job) -> dict[str, str]:
    return {key: path for key, path in (("feed", job.feed), ("evaluate", job.evaluate)) if path}


def _on_board(job: Job, folder: str, root: str) -> Job:
    """The job with the paths that its files have there."""
    subjects = tuple(
        replace(subject, path=f"{folder}/models/{number}/{Path(subject.path).name}")
        for number, subject in enumerate(job.subjects)
    )
    return replace(
        job,
        subjects=subjects,
        feed=f"{folder}/feed.npz" if job.feed else None,
        evaluate=f"{folder}/evaluate.npz" if job.evaluate else None,
        outputs=f"{folder}/outputs.npz" if job.outputs else None,
        root=root,
    )


def _add_facts(event: Event, hello: Mapping[str, Any], address: str) -> Event:
    """The board's own facts, with where it is and how far its clock is off."""
    if not isinstance(event, MachineFacts):
        return event
    return replace(event, facts={**event.facts, "board": address, "clock_offset_s": round(hello["offset_s"], 3)})


def open_ssh(target: Target, environment: Mapping[str, str]) -> Ssh:
    """The board of a target. Raises `InvalidInput` as `find_address`; connects only when it is used."""
    config = Path(target.ssh_config).expanduser() if target.ssh_config else None
    if config is not None and not config.is_file():
        raise InvalidInput(f"target {target.name}: key 'ssh_config': {config}: no such file")
    where = Where(
        address=find_address(target.name, target.host, environment),
        python=target.python,
        folder=target.folder,
        config=config,
    )
    return Ssh(Board(Link(where)), target.root)
