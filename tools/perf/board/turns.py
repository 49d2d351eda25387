"""Two workers in turns on one CPU: while one runs, the other is stopped, so that what else the machine does slows both alike."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TURN_S = 0.1


@contextmanager
def in_turns(*sides: Callable[[], Sequence[int]]) -> Iterator[None]:
    """From when every side has a worker until one has ended. Each of `sides` finds the process ids of its workers.

    A worker that is there before the other waits for it.
    """
    over = threading.Event()
    thread = threading.Thread(target=_take_turns, args=(sides, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _take_turns(sides: Sequence[Callable[[], Sequence[int]]], over: threading.Event) -> None:
    workers: list[int] = []
    turn = 0
    try:
        while len(workers) < len(sides) and not over.wait(TURN_S):
            workers = [pid for find in sides for pid in list(find())[:1]]
            _let_run(workers, -1)
        while all(map(is_alive, workers)) and not over.is_set():
            turn = (turn + 1) % len(sides)
            _let_run(workers, turn)
            over.wait(TURN_S)
    finally:
        for pid in workers:
            _signal(pid, signal.SIGCONT)


def _let_run(workers: Sequence[int], turn: int) -> None:
    for number, pid in enumerate(workers):
        if number != turn:
            _signal(pid, signal.SIGSTOP)
    if turn >= 0:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(workers[turn], {max(os.sched_getaffinity(0))})
        _signal(workers[turn], signal.SIGCONT)


def is_alive(pid: int) -> bool:
    """Whether a process runs or is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_worker(pid: int) -> bool:
    """Whether a process is one that measures."""
    try:
        return b"bench.device.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
