"""The one place that spawns a worker: reads its events, keeps its time limit, kills its whole group."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.errors import CellFailed, DiskFull, InvalidInput, PressbenchError, Unavailable, Unsupported, Untrusted
from bench.reach.base import Event

LINE_LIMIT = 64 * 2**20
STDERR_TAIL = 1500


def run_worker(command: Sequence[str], workdir: Path, limit_s: float, environment: Mapping[str, str]) -> list[Event]:
    """Events of one worker. Nothing it started is left running, whatever happens here."""
    log = workdir / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            list(command),
            cwd=workdir,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        events = [event for line in _lines(process, limit_s) if (event := _event(line))]
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired as error:
        raise CellFailed("the worker closed its output and went on") from error
    finally:
        kill_group(process)
    return _checked(events, code, log)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the worker's process group; it is a session leader, so its children go with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _lines(process: subprocess.Popen[bytes], limit_s: float) -> Iterator[bytes]:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    end = time.monotonic() + limit_s
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            left = end - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise CellFailed(f"the worker was killed: no end after {limit_s:.0f} s")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
            if len(rest) > LINE_LIMIT:
                raise CellFailed("the worker was killed: it printed a line without end")
            yield from lines
    if rest:
        yield rest


def _event(line: bytes) -> Event | None:
    if not line.strip():
        return None
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise CellFailed(f"the worker printed garbage: {line[:120]!r}")
    return event


def _checked(events: list[Event], code: int, log: Path) -> list[Event]:
    for event in events:
        if event["event"] == "error":
            kinds: dict[str, type[PressbenchError]] = {
                kind.__name__: kind for kind in (InvalidInput, Unsupported, Unavailable, Untrusted, DiskFull)
            }
            raise kinds.get(str(event.get("kind")), CellFailed)(str(event.get("message")))
    if code or not events or events[-1]["event"] != "end":
        said = log.read_text(encoding="utf-8", errors="replace")[-STDERR_TAIL:].strip()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise CellFailed(f"the worker {how} before its end" + (f": {said}" if said else ""))
    return events
