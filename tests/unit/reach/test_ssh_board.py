"""A board's own notes and the end of a followed job, without a server."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest

from bench.device.board.agent.owner import note, noted_in
from bench.errors import CellFailed
from bench.reach.ssh.board import Board, _Followed
from bench.reach.ssh.link import Answer


def test_a_note_of_the_owner_is_replaced_in_one_piece(tmp_path):
    """A process that is killed while it writes leaves a note: without one, the next owner removes the job that runs."""
    path, over, seen = tmp_path / "lock", threading.Event(), []
    path.touch()

    def look():
        while not over.is_set():
            seen.append(noted_in(path).get("owner", "nobody"))

    with path.open("r+") as file:
        note(file, "me")
        reader = threading.Thread(target=look)
        reader.start()
        for number in range(300):
            note(file, "me", lost=float(number) if number % 2 else None)
        over.set()
        reader.join()
    assert set(seen) == {"me"}
    assert json.loads(path.read_text())["lost"] == 299.0


def follow(code, *lines):
    """What is taken of a job whose runner has ended, from a `tail` that ends with a code."""

    class Out:
        left = [*lines, b""]

        async def read(self, _most):
            return self.left.pop(0)

    async def wait_closed():
        return None

    process = SimpleNamespace(stdout=Out(), wait_closed=wait_closed, exit_status=code, close=lambda: None)
    followed = _Followed(deadline=float("inf"), boot="b")
    link = SimpleNamespace(where=SimpleNamespace(address="board"))
    asyncio.run(Board(link)._take(Answer(values={"boot": "b", "running": False}, process=process), followed))
    return followed


@pytest.mark.parametrize("code", [None, -1, 137])
def test_what_a_killed_tail_did_not_say_is_asked_for_again(code):
    followed = follow(code, b'{"event": 1}\n{"ev')
    assert followed.lines == [b'{"event": 1}']
    assert followed.taken == 13
    assert followed.end is None


def test_a_runner_that_ended_without_its_last_line_is_said_so():
    with pytest.raises(CellFailed, match="ended without a word"):
        follow(0, b'{"event": 1}\n')
