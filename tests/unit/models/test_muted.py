"""What torch prints about caught errors is kept off the screen, in whichever thread, and nothing else is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread

import pytest

from bench.compress.export import _quiet
from bench.models.muted import muted

BOTH = pytest.mark.parametrize("silence", [muted, _quiet])


def say(text: str) -> None:
    print(text, file=sys.stderr)


@BOTH
def test_what_another_thread_prints_is_seen(silence: Callable[[], AbstractContextManager[None]], capsys):
    with silence():
        say("own")
        other = Thread(target=say, args=("other",))
        other.start()
        other.join()
        with silence():
            say("own")
        say("own")
    say("after")
    assert capsys.readouterr().err == "other\nafter\n"


@BOTH
def test_stderr_is_the_one_of_before_after_two_threads_that_overlap(
    silence: Callable[[], AbstractContextManager[None]], capsys
):
    before, inside, go = sys.stderr, Event(), Event()

    def work() -> None:
        with silence():
            inside.set()
            go.wait(5)

    other = Thread(target=work)
    with silence():
        other.start()
        inside.wait(0.05)
    go.set()
    other.join()
    assert sys.stderr is before
