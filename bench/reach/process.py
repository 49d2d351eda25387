"""The only place that spawns a worker: reads its events, keeps its time limit, kills its whole group."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.device.events import KINDS, End, Event, Failed
from bench.errors import CellFailed, DiskFull, InvalidInput, PressbenchError, Unavailable, Unsupported, Untrusted

LINE_LIMIT = 64 * 2**20
STDERR_TAIL = 1500


def run_worker(
    command: Sequence[str], workdir: Path, limit_s: float, environment: Mapping[str, str]
) -> tuple[Event, ...]:
    """Events of one worker. Nothing it started is left running, whatever happens here. Errors as of `Reach.run`."""
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
        events = tuple(read_event(line) for line in _lines(process, limit_s) if line.strip())
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired as error:
        raise CellFailed("the worker closed its output and went on") from error
    finally:
        kill_group(process)
    raise_errors(events, code, log.read_text(encoding="utf-8", errors="replace")[-STDERR_TAIL:].strip())
    return events


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


def read_event(line: bytes) -> Event:
    """The event on a line. A device is not trusted: `CellFailed` for anything that `to_line` does not write."""
    try:
        values = json.loads(line)
        name = values.pop("event")
        kind = KINDS[name]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CellFailed(f"the worker printed garbage: {line[:120]!r}") from None
    if unknown := set(values) - {item.name for item in fields(kind)}:
        raise CellFailed(f"the worker's {kind.__name__} has unknown keys: {', '.join(sorted(unknown))[:120]}")
    try:
        event: Event = _reader(name).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise CellFailed(f"the worker's {kind.__name__} cannot be read: {_first_fault(error)}") from None
    return event


@cache
def _reader(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[name])


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}"[:200]


def raise_errors(events: Sequence[Event], code: int, said: str) -> None:
    """Raises the error that the worker names, or `CellFailed` if it did not come to its end. `said`: the end of its log."""
    kinds: Mapping[str, type[PressbenchError]] = {
        kind.__name__: kind for kind in (InvalidInput, Unsupported, Unavailable, Untrusted, DiskFull)
    }
    for event in events:
        if isinstance(event, Failed):
            raise kinds.get(event.kind, CellFailed)(event.message)
    if code or not events or not isinstance(events[-1], End):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise CellFailed(f"the worker {how} before its end" + (f": {said}" if said else ""))
