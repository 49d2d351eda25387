"""Keeps TensorRT's log: the reason of a failure is nowhere else.

Travels to the device: standard library and TensorRT, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.trt.loading import TensorRT
from bench.errors import CellFailed, Unavailable

KEPT = 300
OUT_OF_MEMORY = ("out of memory", "outofmemory")
ERRORS = frozenset({"ERROR", "INTERNAL_ERROR"})


def new_log(tensorrt: TensorRT) -> Any:
    """A logger of that TensorRT; `lines` holds (severity, message) of everything above verbose, the first 300."""
    trt = tensorrt.trt

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            worth = severity.name in ERRORS or len(self.lines) < KEPT
            if severity.name != "VERBOSE" and worth and message.strip("- "):
                self.lines.append((severity.name, message))

    return Log()


def start_tensorrt(tensorrt: TensorRT, kind: Any, log: Any) -> Any:
    """A Builder or Runtime. Raises `Unavailable` where TensorRT makes none: the driver is too old for it, say."""
    try:
        return kind(log)
    except TypeError as error:  # the bindings' sign that they got nothing
        reason = "; ".join(errors(log)) or str(error)
        raise Unavailable(
            f"TensorRT {tensorrt.version} does not start: {reason}; it needs a driver at least as new as itself"
        ) from error


def list_lines(log: Any) -> list[str]:
    """The lines for a record, each once."""
    return list(dict.fromkeys(f"{severity}: {message}" for severity, message in log.lines))


def explain_failure(log: Any, doing: str) -> CellFailed:
    """The error for a call that only answered that it failed: out of device memory, or TensorRT's own last words."""
    words = errors(log)
    if any(sign in line.lower() for line in words for sign in OUT_OF_MEMORY):
        return CellFailed(f"out of device memory {doing}")
    return CellFailed(f"TensorRT failed {doing}: {'; '.join(words[-3:]) or 'it gave no reason'}")


def errors(log: Any) -> Sequence[str]:
    """What was logged as an error, first lines only."""
    return [message.splitlines()[0] for severity, message in log.lines if severity in ERRORS]
