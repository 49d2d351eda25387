"""Places of labgrid: acquired beside a board's lease, so that labgrid's other users keep off the board.

labgrid's program is called and nothing of labgrid is imported (docs/decisions.md). A fleet without places starts no
process.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import TypeVar, final

from typing_extensions import Self

from bench.config.fleet import Board, LabPlace
from bench.errors import BoardBusy, Unavailable
from bench.line.fleet.shares import LOOK_S

PROGRAM = "labgrid-client"
ANSWER_S = 60.0
"""How long labgrid's program may take to acquire or release."""
CYCLE_S = 180.0
"""How long it may take to cycle the power: its drivers wait between off and on."""
BUSY = ("already acquired", "was not reserved for")
"""What labgrid says of a place, or of what belongs to it, that another has now and will give back."""
OWN = "You have already acquired"
TAKEN = "acquired place "
"""What it prints before the name of a place that it acquired."""
LEFT_OUT = ("LG_ENV", "LG_PLACE", "PLACE", "LG_STATE", "STATE", "LG_INITIAL_STATE")
"""Variables by which labgrid's program would take other places than the one it is asked for, or do more with it."""
MOST_LINES = 3
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What labgrid's program said. `words`: its last lines, in one."""

    well: bool
    lines: tuple[str, ...]

    @property
    def words(self) -> str:
        """One line for a message."""
        return "; ".join(self.lines[-MOST_LINES:]) or "it gave no reason"


@final
class Places:
    """The places of a run's boards.

    Laws: a place is released in every ending but a kill of this process, and only if this run acquired it. An acquire
    that Ctrl-C meets goes on in a thread that is not interrupted, so what it took is known and released.
    """

    def __init__(
        self,
        boards: Sequence[Board] = (),
        say: Callable[[str], None] = lambda _line: None,
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`say`: a line to the user. `answer_s`: how long labgrid's program may take.

        Raises `Unavailable` where a board has a place and labgrid's program is missing.
        """
        wanted = [board.lab for board in boards if board.lab is not None]
        self._program = _find_program(wanted[0]) if wanted else ""
        self._identity = _find_identity() if wanted else ("", "")
        self._answer_s = answer_s
        self._say, self._held, self._lock = say, set[LabPlace](), Lock()
        self._workers = ThreadPoolExecutor(max(1, 2 * len(wanted)), thread_name_prefix="pressbench-labgrid")

    @contextmanager
    def holding(self, board: Board, *, left: bool = False) -> Iterator[Unavailable | None]:
        """The place of a board, acquired and then released. Gives why it was refused: `BoardBusy`: another has it.

        `left`: as of the board's lease. Then a place that this user has already is what that process left: it is taken over.
        """
        lab = board.lab
        if lab is None:
            yield None
            return
        asked = self._workers.submit(self._acquire, lab, left)
        try:
            yield _wait_for(asked)
        finally:
            _wait_for(self._workers.submit(self._release, lab, asked))

    def cycle(self, board: Board) -> None:
        """Turns a board that this run holds off and on, if labgrid can; what became of it is said."""
        lab = board.lab
        if lab is None:
            return
        answer = _wait_for(self._workers.submit(self._ask, lab, "power", "cycle", limit_s=CYCLE_S))
        what = "has cycled" if answer.well else "did not cycle"
        self._say(
            f"board {board.name}: labgrid {what} the power of place {lab.name}"
            + ("" if answer.well else f": {answer.words}")
        )

    def __enter__(self) -> Self:
        """Nothing is acquired yet."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Releases what an interrupted thread left, and what labgrid did not release when it was asked first."""
        self._workers.shutdown(wait=True)
        for lab in list(self._held):
            self._release(lab)

    def _acquire(self, lab: LabPlace, left: bool) -> Unavailable | None:
        if lab in self._held:  # labgrid did not answer when it was to be released
            return None
        answer = self._ask(lab, "acquire")
        own = OWN in answer.words
        if left and own:
            self._say(f"labgrid's place {lab.name} was left by a run that was killed: it is taken over")
            with self._lock:
                self._held.add(lab)
            return None
        if not answer.well:
            kind = BoardBusy if any(word in line for word in BUSY for line in answer.lines) else Unavailable
            hint = f"; if no program of yours uses it: {_write(lab, 'release')}" if own else ""
            return kind(f"labgrid does not give place {lab.name} of {lab.coordinator}: {answer.words}{hint}")
        taken = next((line.removeprefix(TAKEN) for line in answer.lines if line.startswith(TAKEN)), lab.name)
        found = LabPlace(coordinator=lab.coordinator, name=taken)
        with self._lock:
            self._held.add(found)
        if found != lab:  # it takes a part of a name, or an alias, for the name
            self._release(found)
            return Unavailable(f"{lab.coordinator} has no place {lab.name}; labgrid took {taken}: write its whole name")
        return None

    def _release(self, lab: LabPlace, asked: Future[Unavailable | None] | None = None) -> None:
        """From this user on this host only: one who was given the place meanwhile keeps it."""
        if asked is not None:
            wait([asked])
        if lab not in self._held:
            return
        answer = self._ask(lab, "release-from", "/".join(self._identity))
        if answer.well:
            with self._lock:
                self._held.discard(lab)
        else:
            self._say(f"labgrid did not release place {lab.name}: {answer.words}; by hand: {_write(lab, 'release')}")

    def _ask(self, lab: LabPlace, *words: str, limit_s: float = 0.0) -> Answer:
        """Runs labgrid's program, in a session of its own: Ctrl-C in the terminal does not reach it.

        `limit_s`: in place of `answer_s`.
        """
        host, user = self._identity
        kept = {name: text for name, text in os.environ.items() if name not in LEFT_OUT}
        try:
            done = subprocess.run(
                [self._program, "-x", lab.coordinator, "-p", lab.name, *words],
                env={**kept, "LG_HOSTNAME": host, "LG_USERNAME": user},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit_s or self._answer_s,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Answer(well=False, lines=(f"no answer in {error.timeout:g} s to {_write(lab, *words)}",))
        except OSError as error:
            return Answer(well=False, lines=(f"{self._program}: {error.strerror}",))
        said = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
        lines = tuple(" ".join(line.split()) for line in said if line.strip())
        return Answer(well=done.returncode == 0, lines=lines)


def _wait_for(asked: Future[Found]) -> Found:
    """Its result. Ctrl-C meets a thread only between two lines of Python, so it looks up again and again."""
    while not wait([asked], LOOK_S).done:
        continue
    return asked.result()


def _find_program(lab: LabPlace) -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        raise Unavailable(
            f"{PROGRAM} is not on PATH, and the fleet file has places of labgrid's coordinator {lab.coordinator}: "
            "`pipx install labgrid` (25 or later) brings it"
        )
    return found


def _find_identity() -> tuple[str, str]:
    """Host and user as labgrid's program finds them: a reservation is of both. `Unavailable`: the user has no name."""
    try:
        user = os.environ.get("LG_USERNAME") or getpass.getuser()
    except (KeyError, OSError) as error:
        raise Unavailable("this user has no name, by which labgrid gives places: set LG_USERNAME") from error
    return os.environ.get("LG_HOSTNAME") or socket.gethostname(), user


def _write(lab: LabPlace, *words: str) -> str:
    """The command, for a message."""
    return f"`{' '.join((PROGRAM, '-x', lab.coordinator, '-p', lab.name, *words))}`"
