"""Keeps a run and its leases alive: one thread that says every few seconds that this process is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import final

from typing_extensions import Self

from bench.errors import PressbenchError
from bench.store import Lease, Leases

BEATS = 4
"""Heartbeats within the limit of a lease: three may be lost."""


@final
class Heart:
    """Beats for the runs of this process and every lease that is held."""

    def __init__(self, leases: Leases) -> None:
        self._leases, self._held = leases.hurry(), dict[Lease, bool]()
        self._lock, self._ended = Lock(), Event()
        self._thread = Thread(target=self._work, name="pressbench-heart", daemon=True)

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Keeps a lease alive; then lets go of it."""
        with self._lock:
            self._held[lease] = True
        try:
            yield
        finally:
            self._release(lease)

    def lost(self, lease: Lease) -> bool:
        """Whether a heartbeat found the board given on."""
        with self._lock:
            return not self._held.get(lease, False)

    def __enter__(self) -> Self:
        """Begins to beat."""
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Stops, and lets go of what a thread that was interrupted still held."""
        self._ended.set()
        self._thread.join()
        for lease in list(self._held):
            self._release(lease)

    def _release(self, lease: Lease) -> None:
        with suppress(PressbenchError):  # a database that is away: the lease ends by itself
            self._leases.release(lease)
        with self._lock:
            self._held.pop(lease, None)

    def _work(self) -> None:
        while not self._ended.wait(self._leases.limit_s / BEATS):
            self.beat()

    def beat(self) -> None:
        """Says once, for its runs and every lease that is held, that this process is there."""
        with self._lock:
            held = list(self._held)
        with suppress(PressbenchError):  # the next beat may reach the database again
            self._leases.store.touch_runs()
            alive = self._leases.beat(held) if held else frozenset()
            with self._lock:
                for lease in self._held.keys() & set(held):
                    self._held[lease] = lease in alive
