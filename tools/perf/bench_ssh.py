"""A board over SSH against this machine itself, by a real OpenSSH server on loopback: same times, cost of following, bytes, lost links."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.device.job import Job
from bench.errors import CellFailed
from bench.line.measure import Bench, measure_artifact
from bench.reach.base import Reach
from bench.reach.local import Local
from bench.reach.open import open_reach
from bench.reach.ssh.board import Finished
from bench.reach.ssh.reach import Ssh
from bench.stats import keep_clean
from bench.types import Artifact, Conditions
from tools.perf.board.turns import in_turns, is_alive, is_worker
from tools.perf.subjects import baseline_onnx

TESTS = Path(__file__).resolve().parents[2] / "tests"
PAIRS, RANK = 20, 6
"""The 6th smallest and the 6th largest of 20 hold their median with 95 % (binomial)."""
SAMPLED_S = 5.0
"""Of a launch, the time in which the other one is stopped or runs."""
WATCHED_S = 40.0
HUNG_S = 15.0
MODEL_BYTES = 64 << 20

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
    sys.path[:0] = [str(TESTS), str(TESTS / "fakes")]
    sshd = import_module("sshd")
    if reason := sshd.missing():
        yield reason
        return
    with tempfile.TemporaryDirectory() as folder, sshd.running(Path(folder) / "board") as double:
        yield from agreement(double, Path(folder))
        yield from following(double, Path(folder))
        yield from hanging(double, Path(folder))
        yield from sending(double, Path(folder))
        yield from losing_links(double, Path(folder))


def connect(double: Any, folder: Path, port: int = 0) -> Ssh:
    """A new link to the double, by another port if one is given."""
    host = {"host": f"{double.user}@127.0.0.1:{port}"} if port else {}
    path = folder / f"target-{port}.toml"
    path.write_text(double.target(**host) + '[[backend]]\nname = "ort"\n')
    found = open_reach(load_target(str(path)), "")
    assert isinstance(found, Ssh)
    return found


def agreement(double: Any, folder: Path) -> Iterator[str]:
    """Launches of one file here and there at once, their workers in turns of a tenth of a second.

    The figure is the median over launches: where the buffers of a launch lie changes its time by about 1 %.
    """
    sshd = import_module("sshd")
    artifact = Artifact(path=baseline_onnx("mobilenetv2(size=224)"), format="onnx", digest="")
    there, ratios = connect(double, folder), []
    there.describe()

    def here() -> list[int]:
        return [pid for pid in sshd._children(os.getpid()) if is_worker(pid)]

    def on_board() -> list[int]:
        return [pid for runner in sshd._runners(double) for pid in sshd._children(runner) if is_worker(pid)]

    for _ in range(PAIRS):
        with in_turns(here, on_board), ThreadPoolExecutor(2) as both:
            local, far = both.map(lambda reach: quantiles(reach, artifact), (Local(), there))
        ratios.append(far / local)
    there.close()
    for name, column in zip(("clean median", "fastest tenth"), np.sort(np.array(ratios), axis=0).T, strict=True):
        low, high = column[RANK - 1], column[-RANK]
        yield (
            f"{name} over SSH to loopback / local: {np.median(column):.4f} (95 % {low:.4f} to {high:.4f}, {PAIRS} pairs "
            "in turns; asked: 0.99 to 1.01)"
        )


def quantiles(reach: Reach, artifact: Artifact) -> np.ndarray:
    """Median and 10 % quantile of one launch, in ns, preempted samples left out."""
    measure = Measure(launches=1, pairs=0, time_s=SAMPLED_S, width=1e-9, warmup_s=0.3, profile_runs=0, limit_s=120)
    bench = Bench(reach=reach, session="backends.ort.session:OrtSession", conditions=Conditions(), measure=measure)
    (launch,) = measure_artifact(bench, artifact).launches
    kept, _ = keep_clean(launch.samples_ns, launch.waits_ns)
    return np.quantile(kept if len(kept) else launch.samples_ns, (0.5, 0.1))


def following(double: Any, folder: Path) -> Iterator[str]:
    """Processor time of everything on the board but the worker, while one launch is sampled."""
    reach = connect(double, folder)
    model = folder / "slow.json"
    model.write_text('{"gain": 1.0, "busy": 2000}')
    measure = Measure(
        launches=1, pairs=0, time_s=WATCHED_S + 20, width=1e-9, max_samples=10**7, warmup_s=0.1, profile_runs=0
    )
    thread = in_background(lambda: launch(reach, model, replace(measure, limit_s=300)))
    time.sleep(15)
    before, start = used_s(double), time.monotonic()
    time.sleep(WATCHED_S)
    spent, seconds = used_s(double) - before, time.monotonic() - start
    thread.join()
    reach.close()
    yield (
        f"sshd, tail, the holder and the runner: {1000 * spent:.0f} ms of CPU in {seconds:.0f} s, "
        f"{100 * spent / seconds:.3f} % of a core (asked: under 1 %)"
    )


def hanging(double: Any, folder: Path) -> Iterator[str]:
    """How long after its limit a hung worker's forked child is gone, and when this host knows."""
    reach, pidfile, limit_s = connect(double, folder), folder / "pid", HUNG_S
    model = folder / "hung.json"
    model.write_text(json.dumps({"gain": 1.0, "behave": "hang with a child", "pidfile": str(pidfile)}))

    def hang() -> None:
        with suppress(CellFailed):
            launch(reach, model, Measure(launches=1, pairs=0, limit_s=limit_s))

    thread = in_background(hang)
    wait_for(lambda: (pidfile.exists() and pidfile.read_text()) or not thread.is_alive())
    ends = next(double.storage.glob("jobs/*/runner")).stat().st_mtime + limit_s
    wait_for(lambda: not is_alive(int(pidfile.read_text())))
    gone = time.time() - ends
    thread.join()
    known = time.time() - ends
    reach.close()
    yield f"a hung worker and its child: gone {gone:.1f} s after its limit, reported after {known:.1f} s (asked: 10 s)"


def used_s(double: Any) -> float:
    """Seconds of CPU of the server's connections and all below them, and of the runners."""
    sshd = import_module("sshd")
    todo, found = [*double.connections(), *sshd._runners(double)], 0
    runners = set(sshd._runners(double))
    while todo:
        pid = todo.pop()
        found += sshd._used(pid)
        todo += [] if pid in runners else sshd._children(pid)
    return found / os.sysconf("SC_CLK_TCK")


def sending(double: Any, folder: Path) -> Iterator[str]:
    """Bytes to the board: a first run with a model of 64 MB, then a second run by a new link."""
    model = folder / "large.json"
    model.write_text(json.dumps({"gain": 1.0, "filler": os.urandom(MODEL_BYTES // 2).hex()}))
    with relay(double.port) as (port, sent):
        # the key is known for the server's own port
        known = (double.folder / "known_hosts").read_text()
        (double.folder / "known_hosts").write_text(known + known.replace(str(double.port), str(port)))
        for name in ("first", "second"):
            sent.clear()
            start = time.monotonic()
            reach = connect(double, folder, port)
            measure = Measure(launches=1, pairs=0, time_s=0.2, warmup_s=0.1, profile_runs=0, limit_s=300)
            launch(reach, model, measure)
            reach.close()
            asked = "; asked: under 10 kB" if name == "second" else ""
            yield (
                f"{name} run of a model of {model.stat().st_size / 1e6:.0f} MB: {sum(sent) / 1000:.1f} kB sent, all of "
                f"SSH included, in {time.monotonic() - start:.1f} s{asked}"
            )


def launch(reach: Ssh, model: Path, measure: Measure) -> None:
    """One launch of a fake session."""
    bench = Bench(reach=reach, session="fake_session:FakeSession", conditions=Conditions(), measure=measure)
    measure_artifact(bench, Artifact(path=model, format="json", digest=""))


def in_background(work: Callable[[], None]) -> threading.Thread:
    """A started thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@contextmanager
def relay(port: int) -> Iterator[tuple[int, list[int]]]:
    """A port that passes everything on to another, and how many bytes went there."""
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, far = server.accept()[0], socket.create_connection(("127.0.0.1", port))
                    threading.Thread(target=pump, args=(near, far, sent), daemon=True).start()
                    threading.Thread(target=pump, args=(far, near, []), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], sent


def pump(source: socket.socket, target: socket.socket, count: list[int]) -> None:
    """Until one side closes."""
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            count.append(len(piece))
            target.sendall(piece)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def losing_links(double: Any, folder: Path) -> Iterator[str]:
    """A hundred lost connections in one job, killed and frozen at random moments: is any line lost or doubled?"""
    found: list[Finished] = []
    (folder / "chatter.py").write_text(CHATTER)
    sys.path.insert(0, str(folder))
    reach = connect(double, folder)
    stop, asked = folder / "stop", json.dumps({"stop": str(folder / "stop")})
    job = Job(task="", session="chatter:Nothing", subjects=())
    reach.describe()
    start = time.monotonic()
    thread = threading.Thread(target=lambda: found.append(reach._run_module("chatter", "0" * 32, job, asked, 3600.0)))
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
