"""Kills parts of a run at random moments, and starts again what does not start itself."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from tools.fleet_bench.runs import PATIENCE_S

AWAY_S = {"board": (PATIENCE_S + 1, PATIENCE_S + 4), "worker": (0.5, 2.0), "database": (0.5, 5.0)}
"""Between so many seconds a part stays away."""


KINDS = ("board", "worker", "database", "coordinator")


@dataclass(slots=True)
class Kills:
    """How many of each kind, at which pace. `done`: how many there were."""

    asked: Mapping[str, int]
    every_s: float = 4.0
    seed: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def describe(self) -> str:
        return "killed " + ", ".join(f"{kind} {self.done[kind]} x" for kind in KINDS)


@contextmanager
def disturb(lab: Any, kills: Kills) -> Iterator[Callable[[Any], None]]:
    """Kills in a thread of its own. Yields what must hear of each coordinator that is started."""
    ended, at_work, lock = Event(), list[Any](), Lock()

    def hear(coordinator: Any) -> None:
        with lock:
            at_work[:] = [coordinator] if coordinator else []

    def kill_coordinator() -> bool:
        with lock:
            for process in at_work:
                process.kill()
            return bool(at_work)

    thread = Thread(target=kill_all, args=(lab, kills, kill_coordinator, ended))
    thread.start()
    try:
        yield hear
    finally:
        ended.set()
        thread.join()


def kill_all(lab: Any, kills: Kills, kill_coordinator: Callable[[], bool], ended: Event) -> None:
    """In an order and at moments that the seed gives. What was killed is back before this returns."""
    draw = random.Random(kills.seed)
    order = [kind for kind in KINDS for _ in range(kills.asked[kind]) if kind != "worker" or lab.workers]
    draw.shuffle(order)
    away: list[Thread] = []
    busy = {"board": [Lock() for _ in lab.doubles], "worker": [Lock() for _ in lab.workers], "database": [Lock()]}
    for kind in order:
        if ended.wait(draw.uniform(0.2, 1.8) * kills.every_s):
            break
        if kind == "coordinator":
            while not kill_coordinator() and not ended.wait(0.2):
                continue  # between two processes there is none to kill
            kills.done[kind] += not ended.is_set()
            continue
        place = draw.randrange(len(busy[kind]))
        away_s = draw.uniform(*AWAY_S[kind])
        given = (lab, kind, place, away_s, busy[kind][place], ended)
        away.append(threading.Thread(target=take_away, args=given))
        away[-1].start()
        kills.done[kind] += 1
    for thread in away:
        thread.join()


def take_away(lab: Any, kind: str, place: int, away_s: float, busy: Lock, ended: Event) -> None:
    """Kills one part and starts it again; one that is away already is waited for first."""
    board = list(lab.doubles)[place] if kind == "board" else ""
    parts: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "board": (lambda: lab.kill_board(board), lambda: lab.start_board(board)),
        "worker": (lambda: lab.kill_worker(place), lambda: lab.start_worker(place)),
        "database": (lab.server.kill, lab.server.start),
    }
    kill, start = parts[kind]
    with busy:
        kill()
        ended.wait(away_s)
        start()
