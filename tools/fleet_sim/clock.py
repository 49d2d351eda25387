"""A virtual clock: threads that sleep on it run one at a time, and the real time that each takes moves it on.

So the host of the simulation is a serial one: while it serves one board, the others wait, as with one lock around Python.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Semaphore, Thread
from types import TracebackType
from typing import TypeVar

from bench.records import Record
from bench.store import database
from bench.store.codec import pack_record
from bench.store.patience import Patience

Found = TypeVar("Found")


@dataclass(slots=True, kw_only=True, eq=False)
class Actor:
    """A thread of the simulation. `turn`: released when it is its turn; `wake`: number of its next wake-up; `after_s`: asked
    sleep, None for until it is woken; `over`: it has ended."""

    thread: Thread
    turn: Semaphore
    wake: int = 0
    after_s: float | None = None
    over: bool = False


@dataclass(slots=True)
class Meter:
    """Real seconds in which the database is asked something, and processor seconds of it on this side; `packing`: processor
    seconds in which records are made into bytes."""

    db_wall: float = 0.0
    db_cpu: float = 0.0
    transactions: int = 0
    packing: float = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Times whatever is asked of the database, through the one door of it.

        Only one thread asks at a time. Its own clock is read: that of a process with 1,000 threads takes 12 us a look.
        """
        persist = Patience.persist

        def timed(patience: Patience, work: Callable[[], Found]) -> Found:
            wall, processor, packing = time.perf_counter(), time.thread_time(), self.packing
            try:
                return persist(patience, work)
            finally:
                packing = self.packing - packing
                self.db_wall += time.perf_counter() - wall - packing
                self.db_cpu += time.thread_time() - processor - packing
                self.transactions += 1

        def pack(record: Record) -> bytes:
            begun = time.thread_time()
            body = pack_record(record)
            self.packing += time.thread_time() - begun
            return body

        Patience.persist = timed  # type: ignore[method-assign,assignment]
        vars(database)["pack_record"] = pack
        try:
            yield
        finally:
            Patience.persist = persist  # type: ignore[method-assign]
            vars(database)["pack_record"] = pack_record


@dataclass(slots=True)
class Clock:
    """`now`: virtual seconds. `host`: processor seconds of the host outside the database. `turns`: how often a thread ran."""

    meter: Meter
    now: float = 0.0
    host: float = 0.0
    turns: int = 0
    ends: float = 0.0
    errors: list[BaseException] = field(default_factory=list)
    _queue: list[tuple[float, int, int, Actor]] = field(default_factory=list)
    _back: Lock = field(default_factory=Lock)
    _count: int = 0
    _now: Actor | None = None

    def add(self, work: Callable[[], None]) -> None:
        """A thread that begins when the clock runs."""

        def run() -> None:
            actor.turn.acquire()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                self.errors.append(error)
            actor.over = True
            self._back.release()

        actor = Actor(thread=Thread(target=run, daemon=True), turn=Semaphore(0))
        self._put(actor, 0.0)

    def run(self) -> None:
        """To the end of all threads. Raises what one raised."""
        self._back.acquire()
        for *_, actor in self._queue:
            actor.thread.start()
        while self._queue:
            at, _, wake, actor = heapq.heappop(self._queue)
            if wake != actor.wake or actor.over:
                continue
            self.now = max(self.now, at)
            self._give_turn(actor)
            if self.errors:
                raise self.errors[0]

    def _give_turn(self, actor: Actor) -> None:
        wall, inside, begun = self.meter.db_wall, self.meter.db_cpu, time.process_time()
        self._now, self.turns = actor, self.turns + 1
        actor.turn.release()
        self._back.acquire()
        host = time.process_time() - begun - (self.meter.db_cpu - inside)
        self.host += host
        self.now += host + self.meter.db_wall - wall
        actor.wake += 1
        if not actor.over and actor.after_s is not None:
            self._put(actor, self.now + actor.after_s)

    def sleep(self, seconds: float | None) -> None:
        """Ends the turn of the thread that calls; its next one is so much later, or when it is woken."""
        actor = self._now
        assert actor is not None
        actor.after_s = seconds
        self._back.release()
        actor.turn.acquire()

    def current(self) -> Actor:
        """Whose turn it is."""
        assert self._now is not None
        return self._now

    def wake(self, actor: Actor) -> None:
        """Gives a sleeping thread its turn now."""
        actor.wake += 1
        self._put(actor, self.now)

    def _put(self, actor: Actor, at: float) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, actor.wake, actor))


@dataclass(slots=True)
class Changed:
    """A `threading.Condition` of the virtual clock: as `bench.line.fleet.shares.Changed` says."""

    clock: Clock
    waiting: list[Actor] = field(default_factory=list)

    def __enter__(self) -> bool:
        return True

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        actor = self.clock.current()
        self.waiting.append(actor)
        self.clock.sleep(timeout)
        if actor in self.waiting:
            self.waiting.remove(actor)
            return False
        return True

    def notify_all(self) -> None:
        woken, self.waiting = self.waiting, []
        for actor in woken:
            self.clock.wake(actor)
