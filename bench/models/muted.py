"""Keeps what torch prints about errors that are caught off the screen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, cast

LOCK = RLock()


class _Stream:
    """stderr without what one thread writes while `muted`."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread, self.muted = stream, get_ident(), True

    def write(self, text: str) -> int:
        """Returns the number of characters, as a file does."""
        return len(text) if self.muted and get_ident() == self._thread else cast("int", self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def muted() -> Iterator[None]:
    """What this thread prints on stderr goes nowhere, what others print is seen. One thread at a time."""
    with LOCK:
        before = sys.stderr
        stream = sys.stderr = cast("Any", _Stream(before))
        try:
            yield
        finally:
            stream.muted = False
            sys.stderr = before
