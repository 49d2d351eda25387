"""A hundred lost connections in one job on a board: is any line lost or doubled? Killed and frozen at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.device.job import Job
from bench.reach.ssh.board import Finished
from tools.perf.bench_ssh import TESTS, connect

LOSSES = 100
FROZEN_EVERY = 5
"""One of so many connections is frozen instead of killed."""
CHATTER = """
import json, pathlib, sys, time
stop = pathlib.Path(json.loads(pathlib.Path(sys.argv[1]).read_text())["stop"])
number = 0
while not stop.exists():
    print(json.dumps({"number": number, "text": "x" * (number % 5000)}), flush=True)
    number += 1
    time.sleep(0.01)
"""


def main() -> Iterator[str]:
    sys.path[:0] = [str(TESTS)]
    sshd = import_module("sshd")
    if reason := sshd.missing():
        yield reason
        return
    with tempfile.TemporaryDirectory() as text, sshd.running(Path(text) / "board") as double:
        folder, found = Path(text), list[Finished]()
        (folder / "chatter.py").write_text(CHATTER)
        sys.path.insert(0, text)
        reach = connect(double, folder)
        stop, asked = folder / "stop", json.dumps({"stop": str(folder / "stop")})
        job = Job(task="", session="chatter:Nothing", subjects=())
        reach.describe()
        start = time.monotonic()
        thread = threading.Thread(
            target=lambda: found.append(reach._run_module("chatter", "0" * 32, job, asked, 3600.0))
        )
        thread.start()
        wait_for(lambda: list(double.storage.glob("jobs/*/events")))
        killed, frozen = lose_links(double)
        stop.touch()
        thread.join()
        numbers = [json.loads(line)["number"] for line in found[0].lines]
        reach.close()
        missing, doubled = len(set(range(max(numbers) + 1)) - set(numbers)), len(numbers) - len(set(numbers))
        yield (
            f"{killed} connections killed and {frozen} frozen in {time.monotonic() - start:.0f} s, "
            f"{reach._board.link.connections} opened: of {len(numbers)} lines {missing} lost, {doubled} doubled, "
            f"{'in' if numbers == sorted(numbers) else 'out of'} order (asked: 0 and 0)"
        )


def lose_links(board: Any) -> tuple[int, int]:
    """How many connections were killed, and how many frozen (and killed when they had been given up)."""
    chance, counts = random.Random(0), [0, 0]
    while sum(counts) < LOSSES:
        time.sleep(chance.uniform(0.0, 1.5))
        freezes = sum(counts) % FROZEN_EVERY == FROZEN_EVERY - 1
        lost = board.freeze() if freezes else board.cut()
        counts[freezes] += bool(lost)
        if freezes and lost:
            time.sleep(chance.uniform(0.0, 12.0))
            for pid in lost:
                kill(pid)
    return counts[0], counts[1]


def kill(pid: int) -> None:
    """A process that may be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(true: Callable[[], object]) -> None:
    """Patient."""
    while not true():
        time.sleep(0.05)
