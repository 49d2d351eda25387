"""How a command ends that a signal asks to end, or whose answer cannot be printed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import exit_code

from bench.cli.app import ENDING


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    """Signals as a shell leaves them to a command."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


PROGRAM = """
import os
import signal
import sys
from contextlib import suppress
from types import SimpleNamespace

import bench.cli.app
import bench.commands.listings

number = getattr(signal, sys.argv[1])

def ask():
    os.kill(os.getpid(), number)

{body}

bench.commands.listings.list_targets = work
bench.cli.app.main(["targets"])
"""


def ended(body: str, name: str = "SIGTERM") -> subprocess.CompletedProcess[str]:
    """How a command ends whose work is the function `work` of `body`: a process of its own, as signals may end it."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{body}", body), name],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_asks_to_end_ends_a_command_as_ctrl_c_does(name, code):
    """It ended at once: its temporary files stayed, and of a search nothing was said."""
    done = ended(
        """
def work():
    try:
        ask()
    finally:
        ask()  # `timeout` sends it to the process, and to its group
        print("tidied", flush=True)
""",
        name,
    )
    assert (done.returncode, done.stdout) == (code, "tidied\n")
    assert done.stderr == f"\npressbench: interrupted by {name}\n"


WAITING = """
import time
import bench.commands.listings
from bench.cli import main

def wait():
    print("ready", flush=True)
    time.sleep(60)

bench.commands.listings.list_targets = wait
main(["targets"])
"""


def test_a_terminal_that_was_closed_ends_a_command_by_its_signal():
    """It takes no word any more: that ended in a traceback, with the exit code of a regression."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", WAITING])
    while b"ready" not in os.read(terminal, 999):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129


def test_signals_that_go_on_end_a_command_that_swallowed_the_first():
    """Each one put off the next: asked every 4 s, it never ended."""
    done = ended("""
bench.cli.app.time = SimpleNamespace(monotonic=iter([0.0, 4.0, 8.0]).__next__)

def work():
    with suppress(KeyboardInterrupt):
        ask()
    ask()
    print("goes on", flush=True)
    ask()
    return {}, "was not ended"
""")
    assert (done.returncode, done.stdout) == (143, "goes on\n"), done.stderr


FORKING = """
import os
import signal
import bench.commands.listings
from bench.cli import main

def fork():
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(there, b"ready")
        while True:
            signal.pause()
    os.read(here, 9)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return {}, ""

bench.commands.listings.list_targets = fork
main(["targets"])
"""


def test_a_forked_child_of_a_command_ends_by_the_signal():
    """It raised in the child too, which then went on as a second command."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, [str(-signal.SIGTERM)]), done.stderr


def test_a_command_leaves_the_signals_as_they_were():
    assert exit_code(["targets"]) == 0
    assert {signal.getsignal(number) for number in ENDING} == {signal.SIG_DFL}


def test_a_signal_that_is_ignored_ends_nothing():
    """`nohup` ignores SIGHUP."""
    done = ended(
        """
signal.signal(signal.SIGHUP, signal.SIG_IGN)

def work():
    ask()
    return {}, "all targets"
""",
        "SIGHUP",
    )
    assert (done.returncode, done.stdout) == (0, "all targets\n"), done.stderr


@pytest.mark.parametrize(
    "arguments", [["targets"], ["targets", "--json"], ["--version"], ["--help"], ["targets", "--help"]]
)
def test_an_answer_that_a_full_disk_does_not_take_is_named(monkeypatch, capsys, arguments):
    """A run of hours ended in a traceback, with the exit code of a regression."""
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - `sys.stdout` of the test
    monkeypatch.setattr(sys, "stdout", full)
    assert exit_code(arguments) == 3
    assert capsys.readouterr().err.endswith(
        "standard output: No space left on device: the answer could not be printed\n"
    )
    assert sys.stdout is not full


def test_an_error_whose_json_a_full_disk_does_not_take_keeps_its_text_and_exit_code(monkeypatch, capsys, tmp_path):
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - `sys.stdout` of the test
    monkeypatch.setattr(sys, "stdout", full)
    assert exit_code(["regress", "--results", str(tmp_path), "--json"]) == 2
    assert "no pressbench.db in this folder" in capsys.readouterr().err
    assert sys.stdout is not full
