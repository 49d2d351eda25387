"""A database server that goes away for a moment: what was asked of it is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, final

from bench.errors import DatabaseAway

LIMIT_S = 60.0
"""How long a database may be away: a restart of PostgreSQL takes seconds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
Given = ParamSpec("Given")
Found = TypeVar("Found")


def _say_nothing(_text: str) -> None:
    return None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a database that went away is waited for, and where the user reads so."""

    limit_s: float = LIMIT_S
    say: Callable[[str], None] = _say_nothing

    def persist(self, work: Callable[[], Found]) -> Found:
        """What the work returns. Its try that fails because the database is away is repeated, at most `limit_s` after the
        first; then raises `DatabaseAway`."""
        end, pause, told = time.monotonic() + self.limit_s, FIRST_PAUSE_S, False
        while True:
            try:
                return work()
            except DatabaseAway as error:
                if time.monotonic() + pause > end:
                    raise
                if not told:
                    self.say(f"the database does not answer: trying again for {self.limit_s:g} s: {error}")
                told = True
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)


class Patient(Protocol):
    """What has a patience."""

    @property
    def patience(self) -> Patience:
        """Its own."""
        ...


Owner = TypeVar("Owner", bound=Patient)


def persistent(
    method: Callable[Concatenate[Owner, Given], Found],
) -> Callable[Concatenate[Owner, Given], Found]:
    """A method that may be done twice, repeated while its database is away.

    A connection can be lost while a transaction ends, so one that is repeated may have been done already.
    """

    @wraps(method)
    def tried(self: Owner, /, *given: Given.args, **named: Given.kwargs) -> Found:
        return self.patience.persist(lambda: method(self, *given, **named))

    return tried
