"""Runs one external tool, or one of our own modules, in its own process group, with limits on time and memory."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.hls.design import Design, load
from bench.device.board.parent import end_with_parent
from bench.errors import CellFailed, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one tool may take: seconds of processor time in each of its processes, bytes of memory (address space).

    Processor time, so that a busy machine finds what an idle one does. One that waits ends after `PATIENCE` as long.
    """

    seconds: float = 300.0
    memory_bytes: int = 6 * 2**30


PATIENCE = 20
VERSION_S = 30.0
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
"""What a program does to itself. Other signals come from elsewhere, as SIGKILL from a system that is out of memory."""
AGAIN = "the same cell may succeed when it is run again"


class OutOfReach(CellFailed):
    """The tool ran into a limit of processor time or memory, or crashed, as it would again: the text says which."""


class Disturbed(CellFailed):
    """The tool was ended from outside, or waited too long: that says nothing of the design."""


def read_version(program: str) -> str:
    """The first line of what a program says of its version; "" where it is missing or says nothing."""
    flag = "-V" if program == "yosys" else "--version"
    try:
        said = subprocess.run(
            [program, flag], stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(said.stdout.decode(errors="replace").splitlines()), "").strip()


def run(command: Sequence[str], folder: Path, limits: Limits, *, remedy: str = "", log: Path | None = None) -> str:
    """Runs in `folder`; what the tool printed. `log`: where its words go meanwhile (`folder`/tool.log).

    Raises `OutOfReach` at a limit of processor time or memory and for a crash, `Disturbed` where it was ended from outside
    or waited too long, `CellFailed` for another failure, `Unavailable` with the remedy where it is not installed.
    """
    name = Path(command[0]).name if command[0] != sys.executable else command[2]
    log = log or folder / "tool.log"
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_limited(limits),  # noqa: PLW1509 - it only sets limits, and takes no lock
            )
    except FileNotFoundError:
        raise Unavailable(f"{name} is not installed: {remedy}") from None
    before = _children_s()
    try:
        code = process.wait(PATIENCE * limits.seconds)
    except subprocess.TimeoutExpired:
        raise Disturbed(f"{name} did not end within {PATIENCE * limits.seconds:.0f} s: {AGAIN}") from None
    finally:
        _end_group(process)
    if code and _children_s() - before >= 0.9 * limits.seconds:
        raise OutOfReach(f"{name} did not end within {limits.seconds:.0f} s of processor time")
    said = log.read_text(encoding="utf-8", errors="replace")
    if code:
        raise _explain(name, code, said, limits)
    return said


def ask(
    module: str, design: Path, folder: Path, request: Mapping[str, Any], limits: Limits, *, remedy: str = ""
) -> dict[str, Any]:
    """What a module that ends in `serve` answers about a stored design. Raises as `run`."""
    (folder / "request.json").write_text(json.dumps(dict(request)), encoding="utf-8")
    command = [sys.executable, "-m", module, str(design), str(folder), str(folder / "request.json")]
    run(command, folder, limits, remedy=remedy)
    answer: dict[str, Any] = json.loads((folder / "reply.json").read_text(encoding="utf-8"))
    return answer


def serve(arguments: Sequence[str], write: Callable[[Design, Path, Mapping[str, Any]], Mapping[str, Any]]) -> int:
    """`DESIGN.npz FOLDER REQUEST.json` of `ask`: `write` makes files in the folder and returns the answer."""
    design, folder, request = map(Path, arguments)
    answer = write(load(design), folder, json.loads(request.read_text(encoding="utf-8")))
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def _limited(limits: Limits) -> Callable[[], None]:
    seconds = math.ceil(limits.seconds)

    def limit() -> None:
        end_with_parent()
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    return limit


def _children_s() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what the tool started and left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


MEMORY_WORDS = ("out of memory", "cannot allocate memory", "bad_alloc", "memoryerror", "virtual memory exhausted")


def _explain(name: str, code: int, said: str, limits: Limits) -> CellFailed:
    if (code < 0 and -code not in CRASHES) or "Killed signal" in said:  # as g++ says it of a compiler that it started
        how = signal.Signals(-code).name if code < 0 else "SIGKILL, or one that it started was"
        return Disturbed(
            f"{name} was ended by {how}: {AGAIN}; where this machine runs out of memory, lower option tool_gib"
        )
    if any(words in said.lower() for words in MEMORY_WORDS):
        return OutOfReach(f"{name} needs more than {limits.memory_bytes / 2**30:.0f} GiB of memory")
    if code < 0:
        return OutOfReach(f"{name} was ended by {signal.Signals(-code).name}")
    lines = [line for line in said.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    said_last = errors[0] if errors else (lines or ["and said nothing"])[-1]
    return CellFailed(f"{name} ended with exit code {code}: {said_last.strip()[:300]}")
