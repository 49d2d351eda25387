"""Waiting for another process, patiently: a busy machine is no failure."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable[[], object], patience_s: float = 60) -> None:
    """Returns when it is true; AssertionError when it is not within the patience."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"not so after {patience_s} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs or is stopped; not when it only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
