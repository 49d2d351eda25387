"""A process that ends with its parent, also when the parent is killed: the worker, the guard of a board's settings, tools."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""
LIBC = ctypes.CDLL(None)
"""Loaded here, so that a process just forked need not."""


def end_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Asks Linux to send this process `by` when its parent dies (an emulator may refuse, which is accepted)."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, by)
