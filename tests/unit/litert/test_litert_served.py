"""Converting processes: one serves many conversions, and what kills one conversion or all of it is seen."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import is_alive, wait_until

from backends.tflite import served
from bench.errors import CellFailed

DOUBLE = """
import os, signal, sys, time
from pathlib import Path
from types import ModuleType
from backends.tflite import served

tool = ModuleType("backends.tflite.tool")
loads = []
tool.load = loads.append

def main(request):
    print("said", len(loads), os.getppid(), os.getpid(), flush=True)
    word = request.read_text()
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "wrong":
        raise ValueError("no such operator")
    if word == "exit":
        sys.exit(3)
    if word == "slow":
        time.sleep(60)
    return 0

tool.main = main
sys.modules[tool.__name__] = tool
import backends.tflite
backends.tflite.tool = tool
served.IDLE_S = float(os.environ.get("IDLE_S", "30"))
served.serve(sys.argv[-1])
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch):
    """Has a double of the converter do as a word says: the exit code, and what it printed."""
    (tmp_path / "double.py").write_text(DOUBLE)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "double.py"} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(served, "_idle", {})
    monkeypatch.setattr(served, "_busy", set())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))

    def asked(word: str, kind: str = "onnx") -> tuple[int, list[str]]:
        request, log = tmp_path / "request", tmp_path / "log"
        request.write_text(word)
        log.unlink(missing_ok=True)
        code = served.run(kind, request, log)
        return code, log.read_text().split()

    asked.log = tmp_path / "log"  # type: ignore[attr-defined]
    yield asked
    served._end_all()


def test_one_process_serves_many_conversions_each_in_a_fork_of_its_own(ask):
    first, second, other = ask("fine"), ask("fine"), ask("fine", "pt2")
    assert (first[0], second[0], other[0]) == (0, 0, 0)
    assert first[1][2] == second[1][2] != other[1][2], "the parent of both forks is one process"
    assert (first[1][1], second[1][1]) == ("1", "2")


def test_a_conversion_that_crashes_or_fails_leaves_the_process_for_the_next_one(ask):
    assert ask("crash")[0] == -signal.SIGSEGV
    code, said = ask("wrong")
    assert code == 1
    assert said[-4:] == ["ValueError:", "no", "such", "operator"]
    assert ask("exit")[0] == 3
    assert ask("fine")[1][1] == "4"


def test_a_conversion_over_the_limit_ends_with_its_process(ask, monkeypatch):
    ask("fine")
    (process,) = served._idle["onnx"]
    monkeypatch.setattr(served, "LIMIT_S", 0.5)
    with pytest.raises(CellFailed, match="did not end within 0 s"):
        ask("slow")
    assert process.process.poll() == -signal.SIGKILL
    wait_until(lambda: not is_alive(int(ask.log.read_text().split()[3])))


def test_a_process_that_ended_because_it_was_idle_is_begun_again(ask, monkeypatch):
    monkeypatch.setenv("IDLE_S", "0.2")
    ask("fine")
    (process,) = served._idle["onnx"]
    process.process.wait(20)
    assert ask("fine")[:1] == (0,)


def in_a_thread(ask, word: str) -> tuple[threading.Thread, list[object]]:
    """Asks there, and waits until the fork does its work."""
    found: list[object] = []

    def work() -> None:
        try:
            found.append(ask(word)[0])
        except KeyboardInterrupt as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: served._busy and ask.log.exists() and "said" in ask.log.read_text())
    return thread, found


def test_a_thread_that_is_interrupted_stops_its_conversion_at_once(ask):
    thread, found = in_a_thread(ask, "slow")
    (process,) = served._busy
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    thread.join(20)
    assert isinstance(found[0], KeyboardInterrupt)
    assert process.process.poll() == -signal.SIGKILL
    assert not served._busy


def test_a_conversion_does_not_outlive_those_that_asked_for_it(ask):
    thread, found = in_a_thread(ask, "slow")
    (process,) = served._busy
    process.process.stdin.close()  # as the end of this process does
    thread.join(20)
    assert found == [-signal.SIGKILL]
    wait_until(lambda: not is_alive(int(ask.log.read_text().split()[3])))


def test_a_process_that_cannot_start_says_why(ask, tmp_path):
    (tmp_path / "double.py").write_text("raise SystemExit('there is no converter')")
    code, said = ask("fine")
    assert (code, said[-2:]) == (1, ["no", "converter"])


def test_a_process_that_is_killed_counts_as_a_crash_of_its_conversion(ask):
    ask("fine")
    (process,) = served._idle["onnx"]
    process.process.send_signal(signal.SIGSTOP)
    child = os.fork()
    if not child:
        time.sleep(0.5)
        os.kill(process.process.pid, signal.SIGKILL)
        os._exit(0)
    assert ask("fine")[0] == -signal.SIGKILL
    os.waitpid(child, 0)
    assert ask("fine")[0] == 0
