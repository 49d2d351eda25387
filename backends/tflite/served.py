"""Processes that convert: each has the converters imported, and forks for every conversion.

`python -m backends.tflite.served KIND`, with `pt2`, `onnx` or `tflite`. They are processes of their own because the
converters want environment variables, log to standard output, keep gigabytes and can crash on a bad file. A fork has that
too, without the seconds that their imports take.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import CellFailed

LIMIT_S = 900.0
IDLE_S = 30.0
"""Without a request for so long, a process ends: what it has imported takes most of a gigabyte."""
LOOK_S = 0.05
"""How often both sides look whether they should stop."""

_idle: dict[str, list[_Process]] = {}
_busy: set[_Process] = set()


def run(kind: str, request: Path, log: Path) -> int:
    """Converts what the file says, and returns the exit code, below 0 for a signal. What is printed goes into `log`.

    Raises `CellFailed` where it takes longer than LIMIT_S.
    """
    log.touch()
    while True:
        process = waiting.pop() if (waiting := _idle.get(kind)) else _Process(kind, log)
        _busy.add(process)
        try:
            code = process.run(request, log)
        finally:
            _busy.discard(process)
        if code is None:  # it ended because it was idle
            continue
        if process.lives:
            _idle.setdefault(kind, []).append(process)
        return code


class _Process:
    """The side that asks."""

    def __init__(self, kind: str, log: Path) -> None:
        """`log`: gets what it says while it starts."""
        environment = {
            **os.environ,
            "LITERT_TORCH_SHOW_PROGRESS": "n",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TQDM_DISABLE": "1",
        }
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backends.tflite.served", kind],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,
            )

    @property
    def lives(self) -> bool:
        """Whether it can be asked again."""
        return self.process.poll() is None

    def run(self, request: Path, log: Path) -> int | None:
        """As the function `run`; None where the process had ended before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([str(request), str(log)]).encode() + b"\n")
            end = time.monotonic() + LIMIT_S
            answered: list[Any] = []
            while not answered and time.monotonic() < end:  # an exception from another thread arrives between two looks
                answered = select.select([self.process.stdout], [], [], LOOK_S)[0]
            answer = self.process.stdout.readline() if answered else b""
        except BrokenPipeError:
            return None
        except BaseException:
            self.end()
            raise
        if not answered:
            self.end()
            raise CellFailed(f"the conversion to .tflite did not end within {LIMIT_S:.0f} s")
        return int(answer) if answer else self.process.wait() or None

    def end(self) -> None:
        """With the conversion that it does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _end_all() -> None:
    for process in [*_busy, *(one for waiting in _idle.values() for one in waiting)]:
        process.end()


def _forget_all() -> None:
    _idle.clear()
    _busy.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)


def run_forked(work: Callable[[], int], log: Path) -> int:
    """Does `work` in a fork, and returns its exit code, below 0 for a signal. What it prints goes into `log`."""
    return os.waitstatus_to_exitcode(os.waitpid(_fork(work, log), 0)[1])


def _fork(work: Callable[[], int], log: Path) -> int:
    """The process that does `work`."""
    if child := os.fork():
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _print_into(log)
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (the fork ends here, whatever it was)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _print_into(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)


def serve(kind: str) -> None:
    """Converts each request of standard input in a fork, and answers with its exit code, until none comes for IDLE_S."""
    from backends.tflite import tool

    answers = os.dup(1)
    _print_into(Path(os.devnull))
    requests = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (as long as the process)
    while select.select([requests], [], [], IDLE_S)[0] and (line := requests.readline()):
        request, log = map(Path, json.loads(line))
        with suppress(Exception):  # the fork says what is wrong
            tool.load(kind)
        child = _fork(partial(tool.main, request), log)
        while not (done := os.waitpid(child, os.WNOHANG))[0]:
            if select.select([requests], [], [], LOOK_S)[0]:  # who asked has gone
                os.killpg(0, signal.SIGKILL)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(done[1]))


if __name__ == "__main__":
    serve(sys.argv[1])
