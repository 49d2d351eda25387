"""An emulated ARM board: runs the same worker and counts its instructions instead of timing it."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

from bench.device.events import Counted, Event
from bench.device.job import Job, Subject
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.reach.arm.layout import Board, check_device, default_folder, open_board
from bench.reach.base import Ended, Reach
from bench.reach.process import run_worker
from bench.types import Json

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
        self._overhead = _read_counts(manifest["overhead"][device])

    def describe(self) -> str:
        """The emulated CPU."""
        return f"{self._device} (QEMU 7.2, user mode)"

    def run(self, job: Job, workdir: Path, limit_s: float) -> Ended:
        """See `Reach.run`. Counts are those of one inference, without what the worker does around it.

        Raises `Unsupported` for more than one thread: waiting threads spin, and their instructions would be counted.
        """
        if job.threads != 1:
            raise Unsupported(f"{job.threads} threads: instructions are counted for one thread, waiting ones spin")
        if job.task != "count":
            raise Unsupported("an emulated CPU has no time to measure: instructions are counted instead")
        events, counts = launch(self._board, self._device, job, workdir, limit_s)
        return Ended(events=events, counts=tuple(_subtract(count, self._overhead) for count in counts))


def launch(
    board: Board, device: str, job: Job, workdir: Path, limit_s: float
) -> tuple[tuple[Event, ...], list[Counted]]:
    """The worker's events, and what was executed between each pair of its marks."""
    path, marks, packages = workdir / "job.json", workdir / "marks.jsonl", workdir / "packages"
    path.write_text(replace(job, pin=False).to_json(), encoding="utf-8")
    _offer(("bench", job.session.partition(":")[0].partition(".")[0]), packages)
    command = [*board.command(device, marks, packages), "-m", "bench.device.worker", str(path)]
    events = run_worker(command, workdir, limit_s, board.environment())
    return events, read_marks(marks, job.count_runs)


def read_marks(path: Path, runs: int) -> list[Counted]:
    """Differences between marks 2k and 2k + 1. Raises `CellFailed` unless there are `runs` of them, in order."""
    try:
        marks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if [mark["mark"] for mark in marks] != list(range(2 * runs)):
            raise CellFailed(f"the emulator saw {len(marks)} marks, {2 * runs} were set")
        pairs = zip(marks[::2], marks[1::2], strict=True)
        return [_subtract(_read_counts(after), _read_counts(before)) for before, after in pairs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CellFailed(f"the counting plugin left nothing readable: {error}") from error


def _read_counts(values: Mapping[str, Json]) -> Counted:
    return Counted(instructions=int(values["instructions"]), memory_accesses=int(values["memory_accesses"]))


def _subtract(count: Counted, less: Counted) -> Counted:
    """What was counted beyond `less`, 0 at least."""
    return Counted(
        instructions=max(0, count.instructions - less.instructions),
        memory_accesses=max(0, count.memory_accesses - less.memory_accesses),
    )


def count_empty(board: Board, device: str, workdir: Path) -> Counted:
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
    return Counted(
        instructions=min(count.instructions for count in counts),
        memory_accesses=min(count.memory_accesses for count in counts),
    )


def _offer(names: Sequence[str], folder: Path) -> None:
    """Puts packages of this Python where the emulated one finds them, and no other of its neighbours."""
    folder.mkdir(exist_ok=True)
    for name in dict.fromkeys(names):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(f"package {name} cannot be found to be sent to the emulated board")
        (folder / name).symlink_to(Path(next(iter(spec.submodule_search_locations))).resolve())
