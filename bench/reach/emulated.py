"""An ARM board that is emulated: the same worker file, its instructions counted instead of timed."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

from bench.device.job import Job, Subject
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.reach.arm.layout import Board, check_device, default_folder, open_board
from bench.reach.base import Event, Reach
from bench.reach.process import run_worker

COUNTED = ("instructions", "memory_accesses")
SETUP_LIMIT_S = 120.0


@final
class Emulated(Reach):
    """QEMU in user mode runs the aarch64 Python; this machine's kernel serves it. `folder`: of `make arm`.

    Law: of one job the counts differ between runs by less than 0.1 %.
    """

    counts: ClassVar[bool] = True

    def __init__(self, device: str, folder: Path | None = None) -> None:
        self._device = check_device(device)
        self._board, manifest = open_board(folder or default_folder(os.environ))
        self._overhead = {name: int(manifest["overhead"][device][name]) for name in COUNTED}

    def describe(self) -> str:
        """The emulated CPU."""
        return f"{self._device} (QEMU 7.2, user mode)"

    def run(self, job: Job, workdir: Path, limit_s: float) -> list[Event]:
        """See `Reach.run`. Counts are those of one inference, without what the worker does around it.

        Raises `Unsupported` for more than one thread: threads that wait spin, and spoil the counts.
        """
        if job.threads != 1:
            raise Unsupported(f"{job.threads} threads: instructions are counted for one thread, waiting ones spin")
        if job.task != "count":
            raise Unsupported("an emulated CPU has no time to measure: instructions are counted instead")
        events, counts = launch(self._board, self._device, job, workdir, limit_s)
        told = [
            {"event": "count", **{name: max(0, count[name] - self._overhead[name]) for name in COUNTED}}
            for count in counts
        ]
        return [*events[:-1], *told, events[-1]]


def launch(
    board: Board, device: str, job: Job, workdir: Path, limit_s: float
) -> tuple[list[Event], list[Mapping[str, int]]]:
    """The worker's events, and what was executed between each pair of its marks."""
    path, marks, packages = workdir / "job.json", workdir / "marks.jsonl", workdir / "packages"
    path.write_text(replace(job, pin=False).to_json(), encoding="utf-8")
    _offer(("bench", job.session.partition(":")[0].partition(".")[0]), packages)
    command = [*board.command(device, marks, packages), "-m", "bench.device.worker", str(path)]
    events = run_worker(command, workdir, limit_s, board.environment())
    return events, read_marks(marks, job.count_runs)


def read_marks(path: Path, runs: int) -> list[Mapping[str, int]]:
    """Differences between marks 2k and 2k + 1. Raises `CellFailed` unless there are `runs` of them, in order."""
    try:
        marks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if [mark["mark"] for mark in marks] != list(range(2 * runs)):
            raise CellFailed(f"the emulator saw {len(marks)} marks, {2 * runs} were set")
        pairs = zip(marks[::2], marks[1::2], strict=True)
        return [{name: int(after[name]) - int(before[name]) for name in COUNTED} for before, after in pairs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CellFailed(f"the counting plugin left nothing readable: {error}") from error


def count_empty(board: Board, device: str, workdir: Path) -> dict[str, int]:
    """What the worker itself executes between two marks: the least of some empty inferences.

    Raises `Unavailable` when the board does not run.
    """
    workdir.mkdir()
    model = workdir / "nothing"
    model.touch()
    job = Job(
        task="count",
        session="bench.reach.arm.empty:EmptySession",
        subjects=(Subject(path=str(model), digest=""),),
        outputs=str(workdir / "outputs.npz"),
    )
    try:
        _, counts = launch(board, device, job, workdir, SETUP_LIMIT_S)
    except CellFailed as error:
        raise Unavailable(f"the emulated board does not run here: {error}") from error
    return {name: min(count[name] for count in counts) for name in COUNTED}


def _offer(names: Sequence[str], folder: Path) -> None:
    """Puts packages of this Python where the emulated one finds them, and no other of its neighbours."""
    folder.mkdir(exist_ok=True)
    for name in dict.fromkeys(names):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(f"package {name} cannot be found to be sent to the emulated board")
        (folder / name).symlink_to(Path(next(iter(spec.submodule_search_locations))).resolve())
